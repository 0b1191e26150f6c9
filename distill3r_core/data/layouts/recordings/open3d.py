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
    folders_below,
    folders_of,
    frame_key,
    one_dataset,
    order_of,
    scene_id_of,
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
from distill3r_core.io.images.media import IMAGE_SUFFIXES

_INTRINSICS = "camera_intrinsic.json"


def _detect(root: Path) -> str | None:
    if root.is_dir():
        for folder in folders_of(root):
            if _is_scene(folder):
                return f"{scene_id_of(folder, root)} has color, depth and {_INTRINSICS}"
    return None


def _is_scene(folder: Path) -> bool:
    return (folder / "color").is_dir() and (folder / _INTRINSICS).is_file()


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    for folder in folders_below(root, skip=skip, is_scene=_is_scene):
        if isinstance(folder, Refused):
            yield folder
            continue
        try:
            rig = _rig(folder / _INTRINSICS)
        except ImageError as error:
            yield Refused(folder / _INTRINSICS, str(error))
            continue
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
        yield Scene(
            scene_id_of(folder, root), folder, frames, order=order_of(path.stem for path in images)
        )


def _rig(path: Path) -> Rig:
    """K, whose nine numbers are written column by column.

    Raises:
        ImageError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        k = np.array(content["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T.copy()
        size = (int(content["height"]), int(content["width"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImageError(f"{path.name} is damaged: {error}") from error
    k[:2, 2] += 0.5
    return Rig(checked_intrinsics(k), size)


LAYOUT = Layout(
    name="open3d",
    summary="{color, depth, camera_intrinsic.json}, without poses",
    detect=_detect,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "intrinsics"}),
)
