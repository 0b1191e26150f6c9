"""Layout `scannet`: scans of ScanNet as its exporter writes them, and copies in that form.

`scene0000_00/{color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_color.txt}`; the names are
numbers without padding. Facts: ScanNet/ScanNet (SensReader, issues 2 and 92: depth shows the same
view as color, whatever its size and the extrinsics say).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import (
    marked_dataset,
    numbered_files,
)
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Rig,
    Scene,
)
from distill3r_core.data.layouts.split_files import read_split_lists
from distill3r_core.data.matrix_files import read_matrix, read_pose, with_centers_at_half
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there

_NAME = re.compile(r"(scene\d{4})_\d{2}")
_COLOR_SIZE = (968, 1296)  # of the images that intrinsic_color.txt belongs to
_OFF = 0.2  # share of the size by which twice the principal point may miss it
_INTRINSICS = Path("intrinsic", "intrinsic_color.txt")
_TRAIN, _TEST = ("scannetv2_train.txt",), ("scannetv2_val.txt", "scannetv2_test.txt")
_SUFFIXES = (".jpg", ".jpeg", ".png")


def _mark(folder: Path) -> str | None:
    is_scene = (folder / "color").is_dir() and is_there(folder / _INTRINSICS)
    return "has color, pose and intrinsic" if is_scene else None


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    stored = read_matrix(folder / _INTRINSICS, 4, what="intrinsics")
    k = with_centers_at_half(stored[:3, :3])
    rig = Rig(color=k, size=_size_of(k))
    images = numbered_files(folder / "color", _SUFFIXES)
    frames, lost = [], 0
    for number in sorted(images):
        image = images[number]
        pose = _pose(folder / "pose" / f"{image.stem}.txt")
        lost += pose is None
        depth = folder / "depth" / f"{image.stem}.png"
        frames.append(
            Frame(
                name=image.stem,
                image=image,
                number=number,
                depth=DepthFile(depth, any_size=True) if is_there(depth) else None,
                pose=pose,
                rig=rig,
            )
        )
    if lost:
        yield Note(f"{scene_id}: {lost} of {len(frames)} frames have no pose: tracking was lost")
    match = _NAME.fullmatch(folder.name)
    lists = read_split_lists((folder.parent, folder.parent.parent), train=_TRAIN, test=_TEST)
    yield Scene(
        scene_id,
        folder,
        tuple(frames),
        order="number",
        split=lists.split_of(folder.name),
        is_test=lists.is_test(folder.name),
        place=match.group(1) if match else None,
    )


def _size_of(k: np.ndarray) -> tuple[int, int] | None:
    """The size that K belongs to: that of the scanner, where its principal point is in its middle.

    None: somebody has changed K with the images.
    """
    rows, columns = _COLOR_SIZE
    near = abs(2 * k[0, 2] - columns) < _OFF * columns and abs(2 * k[1, 2] - rows) < _OFF * rows
    return _COLOR_SIZE if near else None


def _pose(path: Path) -> np.ndarray | Path | None:
    """The pose of a frame; None where it is not there, or infinite: tracking was lost.

    A file that is damaged stays its file: who reads the frame refuses it.
    """
    if not is_there(path):
        return None
    try:
        return read_pose(path)
    except ImageError as error:
        return None if "not finite" in str(error) else path


LAYOUT = Layout(
    name="scannet",
    summary="<scene>/{color, depth, pose, intrinsic}, files named by their number",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=100, least=2, most=20, video_like=True),
)
