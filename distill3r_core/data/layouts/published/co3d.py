"""Layout `co3d`: CO3D-v2, turns around objects.

`<category>/{frame_annotations.jgz, <sequence>/{images, depths, depth_masks}}`; a category with one
file in `set_lists` is split by it. Facts: facebookresearch/co3d (`data_types.py`), PyTorch3D's
camera conventions.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core.data.layouts.folders import (
    entries_of,
    frame_key,
    names_in,
    one_dataset,
    scene_id_of,
)
from distill3r_core.data.layouts.marked_scenes import marked_scenes
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
from distill3r_core.data.layouts.split_files import SplitFiles
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, open_file, read_text_file
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of

_ANNOTATIONS = "frame_annotations.jgz"
_SET_LIST = re.compile(r"set_lists_.+\.json")
_IMAGE = re.compile(r"frame(\d+)\.(jpg|jpeg|png)", re.IGNORECASE)
_MOST_BYTES = 4 << 30  # of a category's annotations; the largest has about 1 GB
_PIECE = 1 << 20  # bytes
# PyTorch3D's camera looks along +z with x to the left and y up.
_FLIP = np.array([-1.0, -1.0, 1.0])

Annotations = Mapping[str, Mapping[str, Any]]


def _mark(category: Path) -> str | None:
    return f"has {_ANNOTATIONS}" if is_there(category / _ANNOTATIONS) else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    undecided = set[Path]()

    def list_category(category: Path, _: str) -> Iterator[Listed]:
        if len(_set_lists(category)) > 1:
            undecided.add(category)
        return _list_category(category, root)

    yield from marked_scenes(root, skip, _mark, list_category)
    if undecided:
        yield Note(
            f"categories with several files in set_lists: {len(undecided)}; none of these is "
            "read, as each splits in its own way (leave one, and it decides)"
        )


def _list_category(category: Path, root: Path) -> Iterator[Listed]:
    lists, reading = _set_lists(category), category / _ANNOTATIONS
    try:
        annotations, files = _read_annotations(reading), SplitFiles(None, None)
        if len(lists) == 1:
            (reading,) = lists
            files = _read_set_list(reading)
    except ImageError as error:
        yield Refused(reading, str(error))
        return
    for entry in entries_of(category)[0]:
        folder = category / entry.name
        if (folder / "images").is_dir():
            yield from _scene(folder, scene_id_of(folder, root), annotations, files)


def _set_lists(category: Path) -> list[Path]:
    folder = category / "set_lists"
    return [folder / name for name in sorted(names_in(folder)) if _SET_LIST.fullmatch(name)]


def _read_set_list(path: Path) -> SplitFiles:
    """Sequences for training, and those for validation or test, of lists of their frames.

    Raises:
        ImageError: The file is damaged.
    """
    try:
        content = json.loads(read_text_file(path))
        train, val, test = (_names_in(content.get(part, ())) for part in ("train", "val", "test"))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"it is damaged: {reason_of(error)}") from error
    return SplitFiles(train, (val | test) - train)


def _names_in(rows: Iterable[Any]) -> frozenset[str]:
    """Sequences of the rows (sequence, frame, image).

    Raises:
        ValueError: A row is of another form.
    """
    names = frozenset(sequence for sequence, _, _ in rows)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names of sequences are no text")
    return names


def _read_annotations(path: Path) -> Annotations:
    """Annotations by the path of the image, once for all sequences of a category.

    Raises:
        ImageError: The file is damaged, or would unpack to more than it can have.
    """
    try:
        listed = json.loads(_unpacked(path))
        return {str(item["image"]["path"]): item for item in listed}
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise ImageError(f"it is damaged: {reason_of(error)}") from error
    except (TypeError, KeyError) as error:
        raise ImageError("it is no list of frames with image paths") from error


def _unpacked(path: Path) -> bytearray:
    """What a gzip file holds.

    Raises:
        ImageError: It is more than it can be.
    """
    text = bytearray()
    with open_file(path) as packed, gzip.open(packed) as file:
        # A read of `_MOST_BYTES` would take the memory for all of them first.
        while piece := file.read(_PIECE):
            text += piece
            if len(text) > _MOST_BYTES:
                raise ImageError("it unpacks to more than 4 GB")
    return text


def _scene(
    folder: Path, scene_id: str, annotations: Annotations, files: SplitFiles
) -> Iterator[Listed]:
    frames, without = [], 0
    for entry in entries_of(folder / "images")[0]:
        if not (match := _IMAGE.fullmatch(entry.name)):
            continue
        image = folder / "images" / entry.name
        found = annotations.get(f"{folder.parent.name}/{folder.name}/images/{entry.name}")
        without += found is None
        try:
            frames.append(_frame(folder, image, int(match.group(1)), found))
        except ImageError as error:
            yield Refused(image, str(error), is_frame=True)
    if without:
        yield Note(
            f"{scene_id}: {counted(without, 'image', 'have')} no annotation: no depth, pose or K"
        )
    frames.sort(key=lambda frame: frame_key(frame.name))
    yield Scene(
        scene_id,
        folder,
        tuple(frames),
        order="number",
        split=files.split_of(folder.name),
        is_test=files.is_test(folder.name),
    )


def _frame(folder: Path, image: Path, number: int, found: Mapping[str, Any] | None) -> Frame:
    """One frame.

    Raises:
        ImageError: Its annotation is damaged.
    """
    plain = Frame(name=image.stem, image=image, number=number, unit="none")
    if found is None:
        return plain
    try:
        viewpoint, stored = found["viewpoint"], found.get("depth")
        pose = _pose(viewpoint)
        rows, columns = (int(side) for side in found["image"]["size"])
        rig = Rig(_intrinsics(viewpoint, rows, columns), (rows, columns))
        scale = 1.0 if stored is None else float(stored.get("scale_adjustment", 1.0))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ImageError(f"its annotation is damaged: {reason_of(error)}") from error
    depth = folder / "depths" / f"{image.name}.geometric.png"
    mask = folder / "depth_masks" / f"{image.stem}.png"
    return replace(
        plain,
        pose=pose,
        pose_convention="w2c",
        rig=rig,
        depth=DepthFile(
            depth,
            codec="float16-png",
            scale=1 / scale,
            invalid=(),
            valid=mask if is_there(mask) else None,
            any_size=True,
        )
        if is_there(depth) and scale > 0
        else None,
    )


def _pose(viewpoint: Mapping[str, Any]) -> np.ndarray:
    """cam_from_world with OpenCV axes, of `x_cam = x_world R + T` with PyTorch3D's."""
    rotation = np.array(viewpoint["R"], dtype=np.float64).reshape(3, 3)
    pose = np.eye(4)
    pose[:3, :3] = (rotation * _FLIP).T
    pose[:3, 3] = np.array(viewpoint["T"], dtype=np.float64).reshape(3) * _FLIP
    return pose


def _intrinsics(viewpoint: Mapping[str, Any], rows: int, columns: int) -> np.ndarray:
    """K of normalized device coordinates; their borders are those of the image."""
    sides = np.array([columns, rows], dtype=np.float64)
    isotropic = viewpoint.get("intrinsics_format", "ndc_norm_image_bounds") == "ndc_isotropic"
    half = np.full(2, sides.min() / 2) if isotropic else sides / 2
    fx, fy = np.array(viewpoint["focal_length"], dtype=np.float64).reshape(2) * half
    cx, cy = sides / 2 - np.array(viewpoint["principal_point"], dtype=np.float64).reshape(2) * half
    return checked_intrinsics(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))


LAYOUT = Layout(
    name="co3d",
    summary="<category>/{frame_annotations.jgz, <sequence>/{images, depths}}",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("orbit", most=10),
)
