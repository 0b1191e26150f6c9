"""Layout `habitat`: views rendered in Habitat for CroCo and DUSt3R, five around one place.

`<...>/<scene>/NNNNNNNN_{1..5}.jpeg` with `_depth.exr` (meters) and `_camera_params.json`. View 1
overlaps with each of the others; a view may be missing. `Habitat_<size>_scenes_{train,val}.txt` in
the root list batches by their paths. Facts: naver/dust3r `datasets_preprocess/habitat`,
`dust3r/datasets/habitat.py`.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import entries_of, frame_key, names_in, one_dataset
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.published.rendered_views import rendered_view
from distill3r_core.data.layouts.records import (
    Frame,
    Layout,
    Listed,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.layouts.split_files import SplitFiles, read_split_lists
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of

_IMAGE = re.compile(r"(\d{8})_(\d)\.(jpeg|jpg|png)", re.IGNORECASE)
_LIST = re.compile(r"Habitat_.+_scenes_(train|val)\.txt")
_ENDS = ("jpeg", "jpg", "png")


def _mark(folder: Path) -> str | None:
    """A scene has an image with a camera or a depth map beside it."""
    names = set(names_in(folder))
    for name in sorted(name for name in names if name.endswith(("_camera_params.json", ".exr"))):
        stem = name.removesuffix("_camera_params.json").removesuffix("_depth.exr")
        found = next((f"{stem}.{end}" for end in _ENDS if f"{stem}.{end}" in names), None)
        if found and _IMAGE.fullmatch(found):
            return f"holds {found}"
    return None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    """The batches below a folder, split as the lists in it say.

    Raises:
        RequestError: A list is a pipe or a device.
        OSError: One cannot be read.
    """
    lists = [match for name in sorted(names_in(root)) if (match := _LIST.fullmatch(name))]
    train, val = ([m.group() for m in lists if m.group(1) == side] for side in ("train", "val"))
    files = read_split_lists((root,), train=train, test=val)
    yield from marked_scenes(root, skip, _mark, partial(_list_place, files=files))


def _list_place(folder: Path, place: str, *, files: SplitFiles) -> Iterator[Listed]:
    batches: dict[str, list[Frame]] = {}
    for entry in entries_of(folder)[0]:
        if not (match := _IMAGE.fullmatch(entry.name)):
            continue
        image = folder / entry.name
        view = rendered_view(
            image,
            int(match.group(2)),
            camera=image.with_name(f"{image.stem}_camera_params.json"),
            depth=image.with_name(f"{image.stem}_depth.exr"),
            read_camera=_camera,
        )
        if isinstance(view, Refused):
            yield view
            continue
        batches.setdefault(match.group(1), []).append(view)
    for batch, frames in sorted(batches.items()):
        frames.sort(key=lambda frame: frame_key(frame.name))
        scene_id = f"{place}/{batch}"
        yield Scene(
            scene_id,
            folder,
            tuple(frames),
            order="number",
            split=files.split_of(scene_id),
            is_test=files.is_test(scene_id),
            place=place,
        )


def _camera(path: Path) -> tuple[np.ndarray, Rig]:
    """world_from_cam and K.

    Raises:
        ImageError: The file is damaged.
    """
    try:
        content = json.loads(read_text_file(path))
        pose = np.eye(4)
        pose[:3, :3] = np.array(content["R_cam2world"], dtype=np.float64).reshape(3, 3)
        pose[:3, 3] = np.array(content["t_cam2world"], dtype=np.float64).reshape(3)
        k = np.array(content["camera_intrinsics"], dtype=np.float64).reshape(3, 3)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    return pose, Rig(color=checked_intrinsics(k))


LAYOUT = Layout(
    name="habitat",
    summary="<scene>/NNNNNNNN_{1..5}.jpeg with depth and camera beside it",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", most=1),
)
