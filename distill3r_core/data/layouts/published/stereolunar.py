"""Layout `stereolunar`: pairs of views of the Moon, rendered under several positions of the sun.

`<part>/<scene>/im_NNNNN.{jpg,exr,npz}`; images 2k and 2k + 1 are a pair, which is a scene of two
views here. Facts: clementinegrethen/StereoLunar, its samples in `quick_testing`.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.folders import entries_of, names_in, one_dataset
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.published.rendered_views import rendered_view
from distill3r_core.data.layouts.records import (
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, open_file
from distill3r_core.untrusted.npz_arrays import (
    DAMAGED_NPZ,
    names_in_npz,
    read_npz_array,
    read_npz_header,
)
from distill3r_core.untrusted.printable import reason_of

_IMAGE = re.compile(r"im_(\d{5})\.(jpg|png)", re.IGNORECASE)
_CAMERA = re.compile(r"im_\d{5}\.npz")
_WORLD_TO_CAM = ("Rt", "extri")
_SPLITS = ("train.npz", "test.npz")
_LARGEST = 4096  # bytes of an array of a camera file; a matrix has 128


def _mark(folder: Path) -> str | None:
    found = sorted(name for name in names_in(folder) if _CAMERA.fullmatch(name))
    return f"holds {found[0]}" if found else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    parts = set[Path]()
    for listed in marked_scenes(root, skip, _mark, _list_place):
        if isinstance(listed, Scene):
            parts.add(listed.folder.parent)
        yield listed
    for part in sorted(parts):
        if found := [name for name in _SPLITS if is_there(part / name)]:
            yield Note(
                f"{part}: pickled objects are not read ({' and '.join(found)}): "
                "consecutive images are the pairs"
            )


def _list_place(folder: Path, place: str) -> Iterator[Listed]:
    pairs: dict[int, list[Frame]] = {}
    for entry in entries_of(folder)[0]:
        if not (match := _IMAGE.fullmatch(entry.name)):
            continue
        number, image = int(match.group(1)), folder / entry.name
        view = rendered_view(
            image,
            number,
            camera=image.with_suffix(".npz"),
            depth=image.with_suffix(".exr"),
            read_camera=_camera,
        )
        if isinstance(view, Refused):
            yield view
            continue
        pairs.setdefault(number // 2, []).append(view)
    for pair, frames in sorted(pairs.items()):
        frames.sort(key=lambda frame: frame.number or 0)
        yield Scene(
            f"{place}/{pair:05d}", folder, _near_origin(frames), order="number", place=place
        )


def _near_origin(frames: list[Frame]) -> tuple[Frame, ...]:
    """Frames in a world that begins at the first camera: float32 has steps of 0.125 m at the
    distance of the Moon's center.
    """
    poses = [frame.pose for frame in frames if isinstance(frame.pose, np.ndarray)]
    if not poses:
        return tuple(frames)
    back = np.eye(4)
    back[:3, 3] = -poses[0][:3, 3]
    return tuple(
        replace(frame, pose=back @ frame.pose) if isinstance(frame.pose, np.ndarray) else frame
        for frame in frames
    )


def _camera(path: Path) -> tuple[Float[np.ndarray, "4 4"], Rig]:
    """world_from_cam in float64, meters from the Moon's center, and K (centers at +0.5).

    Raises:
        ImageError: The file is damaged.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            k, pose = _matrix(archive, "intrinsics", (3, 3)), _world_from_cam(archive)
    except (*DAMAGED_NPZ, np.linalg.LinAlgError) as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    return pose, Rig(checked_intrinsics(k))


def _world_from_cam(archive: zipfile.ZipFile) -> Float[np.ndarray, "4 4"]:
    """`cam2world`, which the samples have; else the inverse of what the data set's README names."""
    there = names_in_npz(archive)
    inverse = next((name for name in _WORLD_TO_CAM if name in there), None)
    if "cam2world" in there or inverse is None:
        return _matrix(archive, "cam2world", (4, 4))
    whole = np.eye(4)
    rows = _matrix(archive, inverse, (3, 4), (4, 4))
    whole[: len(rows)] = rows
    return np.linalg.inv(whole)


def _matrix(
    archive: zipfile.ZipFile, name: str, *shapes: tuple[int, int]
) -> Float[np.ndarray, "m n"]:
    shape, dtype = read_npz_header(archive, name, most=_LARGEST)
    if shape not in shapes or dtype.kind != "f":
        rows, columns = shapes[-1]
        raise ValueError(f"{name} is no {rows}x{columns} matrix of numbers")
    return read_npz_array(archive, name).astype(np.float64)


LAYOUT = Layout(
    name="stereolunar",
    summary="<part>/<scene>/im_NNNNN.{jpg,exr,npz}, pairs of consecutive images",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", most=1),
)
