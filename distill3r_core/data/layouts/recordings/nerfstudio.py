"""Layout `nerfstudio`: `transforms.json` beside its images (nerfstudio, instant-ngp).

Or `transforms_train.json`, `transforms_val.json` and `transforms_test.json`, as the scenes of NeRF
out of Blender have them: a scene each, in the split of its name; so are the lists of names in
`train_filenames`, `val_filenames` and `test_filenames`, where a file has them. Poses are
world-from-camera with OpenGL axes; their unit is not known. Facts: nerfstudio
`docs/quickstart/data_conventions.md`, `data/dataparsers/nerfstudio_dataparser.py`.
"""

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from distill3r_core.data.layouts.folders import frame_key, order_of
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.manifest_cells import Split
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, name_fault, open_file, read_text_file
from distill3r_core.io.images.media import LeftOut
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of

_FILE = "transforms.json"
_PARTS: dict[str, Split] = {"train": "train", "val": "val", "test": "val"}  # of Blender's scenes
_DECIDES = ("train", "test", "val")  # which of several lists that name an image
_MOST_BYTES = 1 << 28
_FISHEYE = re.compile("fisheye|equirect", re.IGNORECASE)
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def _mark(folder: Path) -> str | None:
    names = (_FILE, *(_part_file(part) for part in _PARTS))
    return next((f"has {name}" for name in names if is_there(folder / name)), None)


def _part_file(part: str) -> str:
    return f"transforms_{part}.json"


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    """The scene of `transforms.json`; where there is none, a scene for each split's file."""
    if is_there(folder / _FILE):
        yield from _list_file(folder / _FILE, scene_id)
        return
    for part, split in _PARTS.items():
        if is_there(path := folder / _part_file(part)):
            for listed in _list_file(path, f"{scene_id}/{part}"):
                if isinstance(listed, Scene):
                    listed = replace(listed, split=split, is_test=part == "test", place=scene_id)
                yield listed


def _list_file(path: Path, scene_id: str) -> Iterator[Listed]:
    """The frames of a file in the order of their paths' numbers."""
    folder = path.parent
    try:
        content = _read(path)
    except ImageError as error:
        yield Refused(path, str(error))
        return
    model = content.get("camera_model")
    fisheye = isinstance(model, str) and bool(_FISHEYE.search(model))
    if fisheye:
        yield Note(f"{scene_id}: {model} images are no pinhole's; their intrinsics are left out")
    elif any(content.get(name) for name in _DISTORTION):
        yield Note(f"{scene_id}: its images are distorted; the pinhole of their K is taken")
    frames: dict[Path, Frame] = {}
    for entry in content["frames"]:
        try:
            frame = _frame(folder, content, entry, fisheye=fisheye)
        except ImageError as error:
            named = entry.get("file_path") if isinstance(entry, dict) else None
            place = folder / named if isinstance(named, str) else path
            yield Refused(place, str(error), is_frame=True)
            continue
        if frame.image in frames:
            yield Refused(frame.image, "the file names it twice")
            continue
        frames[frame.image] = frame
    ordered = sorted(frames.values(), key=lambda frame: (frame_key(frame.name), frame.image))
    order = order_of(frame.image.stem for frame in ordered) if ordered else "none"
    scene = Scene(scene_id, folder, tuple(ordered), order=order)
    yield from _parts_by_lists(scene, content)


def _parts_by_lists(scene: Scene, content: Mapping[str, Any]) -> Iterator[Listed]:
    """A scene for each of the file's lists of names; the scene itself where it has none.

    An image that several lists name is in one part: training before test before validation.
    """
    entries = {part: content.get(f"{part}_filenames") for part in _PARTS}
    lists = {part: names for part, names in entries.items() if isinstance(names, list)}
    if not any(lists.values()):
        yield scene
        return
    named = {part: set(map(_plain_path, names)) for part, names in lists.items()}
    parts: dict[str, list[Frame]] = {part: [] for part in _PARTS}
    shared = dict.fromkeys(_PARTS, 0)
    unnamed = []
    for frame in scene.frames:
        name = _plain_path(frame.image.relative_to(scene.folder).as_posix())
        naming = [part for part in _DECIDES if name in named.get(part, ())]
        if not naming:
            unnamed.append(LeftOut(frame.image, "in none of the lists of its transforms.json"))
            continue
        parts[naming[0]].append(frame)
        shared[naming[0]] += len(naming) > 1
    for part, count in shared.items():
        if count:
            kind = "training" if part == "train" else part
            yield Note(
                f"{scene.scene_id}: {counted(count, 'image', 'are')} in several lists of its "
                f"transforms.json, and taken as {kind} data"
            )
    known = {
        _plain_path(one.get("file_path")) for one in content["frames"] if isinstance(one, dict)
    }
    known.discard(None)
    if astray := sum(_plain_path(name) not in known for names in lists.values() for name in names):
        yield Note(f"{scene.scene_id}: its lists have {counted(astray, 'name')} of no frame")
    for part, frames in parts.items():
        if frames:
            yield replace(
                scene,
                scene_id=f"{scene.scene_id}/{part}",
                frames=tuple(frames),
                split=_PARTS[part],
                is_test=part == "test",
                place=scene.scene_id,
            )
    yield from unnamed


def _plain_path(name: Any) -> str | None:
    """A path below the folder without a suffix, which lists have or not; None: it is no such."""
    path = Path(name) if isinstance(name, str) else Path()
    return None if not path.name or path.is_absolute() else path.with_suffix("").as_posix()


def _read(path: Path) -> Mapping[str, Any]:
    """The content of the file.

    Raises:
        ImageError: It is not a JSON object with a list of frames.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ImageError(f"it is larger than {_MOST_BYTES >> 20} MB")
        content = json.loads(read_text_file(path, encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ImageError(f"it cannot be read: {reason_of(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ImageError("it has no list 'frames'")
    return content


def _frame(folder: Path, content: Mapping[str, Any], entry: Any, *, fisheye: bool) -> Frame:
    """One frame of the list.

    Raises:
        ImageError: Its image, pose or intrinsics are missing or not what they should be.
    """
    if not isinstance(entry, dict):
        raise ImageError("a frame is not an object")
    image = _below(folder, entry.get("file_path"))
    if not image.suffix:  # the original NeRF files leave it out
        image = next(
            (path for end in IMAGE_SUFFIXES if is_there(path := image.with_suffix(end))), image
        )
    relative = image.relative_to(folder).with_suffix("").as_posix()
    pose = _pose(entry.get("transform_matrix"))
    depth = None
    if (named := entry.get("depth_file_path")) is not None:
        path = _below(folder, named)
        codec = "array" if path.suffix.lower() == ".npy" else "png16"
        # In thousandths of the poses' unit.
        depth = DepthFile(path, codec=codec, scale=1000.0, any_size=True)
    return Frame(
        name=relative.replace("/", "_"),
        image=image,
        pose=pose,
        pose_axes="opengl",
        depth=depth,
        rig=None if fisheye else _rig(content, entry, image),
        mask=None if (mask := entry.get("mask_path")) is None else _below(folder, mask),
        unit="none",
        camera="fisheye" if fisheye else "pinhole",
    )


def _below(folder: Path, name: Any) -> Path:
    """The path of a file below the folder.

    Raises:
        ImageError: It has none, or it leads elsewhere.
    """
    if not isinstance(name, str) or not name:
        raise ImageError("a frame names no file")
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise ImageError("a frame names a file that is not below the folder")
    if (fault := name_fault(path.as_posix())) is not None:
        raise ImageError(f"a frame names a file whose name {fault}")
    return folder / path


def _pose(matrix: Any) -> np.ndarray:
    try:
        pose = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError("its transform_matrix is not one of numbers") from error
    if pose.shape not in ((3, 4), (4, 4)):
        raise ImageError("its transform_matrix is not 4x4")
    return pose if len(pose) == 4 else np.vstack([pose, (0.0, 0.0, 0.0, 1.0)])


def _rig(content: Mapping[str, Any], entry: Mapping[str, Any], image: Path) -> Rig | None:
    """K by fields of the file or of the frame, those of the file first; None: there is none."""

    def field(name: str) -> float | None:
        value = content.get(name, entry.get(name))
        if value is None:
            return None
        # Compared as it is: an integer may be too large to become a float. NaN compares false.
        if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise ImageError(f"its {name} is not a number")
        return float(value)

    width, height = field("w"), field("h")
    if width is None or height is None:
        width, height = _size_of(image)
    fx, angle = field("fl_x"), field("camera_angle_x")
    if fx is None and angle is not None and 0 < angle / 2 < math.pi / 2:
        fx = width / (2 * math.tan(angle / 2))
    if fx is None:
        return None
    fy, cx, cy = field("fl_y"), field("cx"), field("cy")
    k = np.array(
        [
            [fx, 0, width / 2 if cx is None else cx],
            [0, fx if fy is None else fy, height / 2 if cy is None else cy],
            [0, 0, 1],
        ]
    )
    return Rig(color=checked_intrinsics(k), size=(round(height), round(width)))


def _size_of(image: Path) -> tuple[float, float]:
    """Width and height by the header of an image."""
    try:
        with open_file(image) as file, Image.open(file) as opened:
            return float(opened.width), float(opened.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"its size cannot be read: {reason_of(error)}") from error


LAYOUT = Layout(
    name="nerfstudio",
    summary="transforms.json, or transforms_{train,val,test}.json, beside its images",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics", "mask"}),
)
