"""Layout `open3d`: what Open3D's RealSense recorder writes.

`{color/NNNNNN.jpg, depth/NNNNNN.png, camera_intrinsic.json}`: depth aligned to color, no poses.
Facts: isl-org/Open3D `realsense_recorder.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import (
    entries_of,
    frame_key,
    marked_dataset,
    order_of,
)
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_text_file
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES
from distill3r_core.untrusted.printable import reason_of

_INTRINSICS = "camera_intrinsic.json"
# OverflowError: a size of 1e999.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError)


def _mark(folder: Path) -> str | None:
    is_scene = (folder / "color").is_dir() and is_there(folder / _INTRINSICS)
    return f"has color, depth and {_INTRINSICS}" if is_scene else None


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    try:
        rig = _rig(folder / _INTRINSICS)
    except ImageError as error:
        yield Refused(folder / _INTRINSICS, str(error))
        return
    names = sorted((entry.name for entry in entries_of(folder / "color")[0]), key=frame_key)
    images = [folder / "color" / name for name in names]
    images = [path for path in images if path.suffix.lower() in IMAGE_SUFFIXES]
    frames = tuple(
        Frame(
            name=image.stem,
            image=image,
            number=int(image.stem) if image.stem.isdecimal() else None,
            depth=DepthFile(folder / "depth" / f"{image.stem}.png"),
            rig=rig,
        )
        for image in images
    )
    yield Scene(scene_id, folder, frames, order=order_of(path.stem for path in images))


def _rig(path: Path) -> Rig:
    """K, whose nine numbers are written column by column.

    Raises:
        ImageError: The file is damaged.
    """
    try:
        content = json.loads(read_text_file(path))
        k = np.array(content["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T.copy()
        size = (int(content["height"]), int(content["width"]))
    except _DAMAGED as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    k[:2, 2] += 0.5
    return Rig(checked_intrinsics(k), size)


LAYOUT = Layout(
    name="open3d",
    summary="{color, depth, camera_intrinsic.json}, without poses",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene),
    carries=frozenset({"depth", "intrinsics"}),
)
