"""Layout `scannet`: scans of ScanNet as its exporter writes them, and copies in that form.

`scene0000_00/{color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_color.txt}`, the names
numbers without padding, of the exporter in Python; `frame-NNNNNN.{color.jpg, depth.pgm, pose.txt}`
beside `_info.txt`, of the one in C++. Facts: ScanNet/ScanNet (SensReader, issues 2 and 92: depth
shows the same view as color, whatever its size and the extrinsics say).
"""

import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.folders import (
    entries_of,
    folders_of,
    frame_key,
    names_in,
    numbered_files,
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
from distill3r_core.data.layouts.scan_info import read_scan_info
from distill3r_core.data.layouts.split_files import read_split_lists
from distill3r_core.data.matrix_files import read_matrix, read_tracked_pose, with_centers_at_half
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.report import counted

_NAME = re.compile(r"(scene\d{4})_\d{2}")
_COLOR_SIZE = (968, 1296)  # of the images that intrinsic_color.txt belongs to
_OFF = 0.2  # share of the size by which twice the principal point may miss it
_INTRINSICS = Path("intrinsic", "intrinsic_color.txt")
_DEPTH_EXTRINSIC = Path("intrinsic", "extrinsic_depth.txt")
_TRAIN, _TEST = ("scannetv2_train.txt",), ("scannetv2_val.txt", "scannetv2_test.txt")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_INFO = "_info.txt"
_COLOR = re.compile(r"frame-(\d{1,18})\.color\.(?:jpg|png)", re.IGNORECASE)
_DEPTHS = {"depth.pgm": "pgm16", "depth.png": "png16"}  # codecs
_MILLIMETERS = 1000.0
_IDENTITY = 1e-4  # by which numbers of an identity may be off
_UNEXPORTED = (
    "a recording that has to be exported first, with color, depth, poses and intrinsics: by "
    "SensReader/python/reader.py of ScanNet (Python 2.7), or SensReader/c++"
)


def _mark(folder: Path) -> str | None:
    if (folder / "color").is_dir() and is_there(folder / _INTRINSICS):
        return "has color, pose and intrinsic"
    if is_there(folder / _INFO) and any(map(_COLOR.fullmatch, names_in(folder))):
        return f"has {_INFO} beside its frames"
    return None


def _late_mark(folder: Path) -> str | None:
    recordings = _recordings(folder)
    return f"holds {recordings[0]}" if recordings else None


def _recordings(folder: Path) -> list[str]:
    """Recordings as the scanner wrote them."""
    return sorted(name for name in names_in(folder) if name.lower().endswith(".sens"))


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    """The scenes that are exported; recordings that are not are refused."""
    exported, holders = set[str](), []
    for folder in folders_of(root, skip=skip):
        if isinstance(folder, Path):
            exported.update(scene_id_of(folder, root).split("/") if _mark(folder) else ())
            holders += [folder] if _recordings(folder) else []
    yield from marked_scenes(root, skip, _mark, _list_scene, sweep=True)
    for folder in holders:
        yield from (Refused(path, _UNEXPORTED) for path in _unexported(folder, exported))


def _unexported(folder: Path, exported: Container[str]) -> list[Path]:
    """The recordings of a folder of which there is no export.

    Args:
        exported: Names of the folders with an export, and of those around them: one that has a
            recording's name holds what is exported of it.
    """
    found = [folder / name for name in _recordings(folder)]
    if len(found) == 1:  # whatever is exported here is of it, but for what has another scan's name
        below = [folder / entry.name for entry in entries_of(folder)[0] if entry.is_dir()]
        below = [path for path in below if not _NAME.fullmatch(path.name)]
        if any(map(_mark, (folder, *below))):
            return []
    return [path for path in found if path.stem not in exported]


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    if is_there(folder / _INTRINSICS):
        yield from _list_folders(folder, scene_id)
    else:
        yield from _list_info(folder, scene_id)


def _list_folders(folder: Path, scene_id: str) -> Iterator[Listed]:
    """What the exporter in Python writes: a folder for each kind of file."""
    stored = read_matrix(folder / _INTRINSICS, 4, what="K")
    k = with_centers_at_half(stored[:3, :3])
    rig = Rig(color=k, size=_size_of(k))
    images = numbered_files(folder / "color", _SUFFIXES)
    frames, lost = [], 0
    for number in sorted(images):
        image = images[number]
        pose, is_lost = _pose(folder / "pose" / f"{image.stem}.txt")
        lost += is_lost
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
    if is_there(path := folder / _DEPTH_EXTRINSIC):
        try:
            yield from _extrinsic_note(scene_id, read_matrix(path, 4, what=path.name))
        except ImageError as error:  # of a file that only a remark is taken from
            yield Note(f"{scene_id}: {error}; it is not used")
    yield from _scene(folder, scene_id, frames, lost)


def _list_info(folder: Path, scene_id: str) -> Iterator[Listed]:
    """What the exporter in C++ writes: all files in one folder, K by its key in `_info.txt`."""
    info = read_scan_info(folder / _INFO)
    names = sorted((entry.name for entry in entries_of(folder)[0]), key=frame_key)
    by_lower = {name.lower(): name for name in names}
    frames, lost = dict[int, Frame](), 0
    for match in filter(None, map(_COLOR.fullmatch, names)):
        stem, number = match.group().split(".")[0], int(match.group(1))
        ends = (end for end in _DEPTHS if f"{stem}.{end}".lower() in by_lower)
        depth = None
        if (end := next(ends, None)) is not None:
            path = folder / by_lower[f"{stem}.{end}".lower()]
            scale = info.depth_scale or _MILLIMETERS
            depth = DepthFile(path, _DEPTHS[end], scale=scale, any_size=True)
        pose, is_lost = _pose(folder / by_lower.get(f"{stem}.pose.txt".lower(), f"{stem}.pose.txt"))
        lost += is_lost
        frames[number] = Frame(
            name=stem,
            image=folder / match.group(),
            number=number,
            depth=depth,
            pose=pose,
            rig=info.rig,
        )
    yield from _extrinsic_note(scene_id, info.depth_extrinsic)
    yield from _scene(folder, scene_id, [frames[number] for number in sorted(frames)], lost)


def _extrinsic_note(scene_id: str, extrinsic: np.ndarray | None) -> Iterator[Note]:
    if extrinsic is not None and not np.allclose(extrinsic, np.eye(4), atol=_IDENTITY):
        yield Note(
            f"{scene_id}: the extrinsics of its depth camera are not the identity; they are left "
            "out, as ScanNet's depth shows what the color camera sees"
        )


def _scene(folder: Path, scene_id: str, frames: Sequence[Frame], lost: int) -> Iterator[Listed]:
    """The scene of a scan, and how many of its frames have no pose, of which some are lost."""
    if unposed := sum(frame.pose is None for frame in frames):
        absent = unposed - lost
        why = ["tracking was lost" if lost == unposed else f"{lost} lost tracking"] if lost else []
        why += ["no file" if absent == unposed else f"{absent} without a file"] if absent else []
        lacking = counted(unposed, "frame", "have", of=len(frames))
        yield Note(f"{scene_id}: {lacking} no pose: {', '.join(why)}")
    # What is exported may lie in a folder of the scan: `scans/scene0000_00/exported`.
    names = scene_id.split("/")[::-1]
    depth = next((depth for depth, name in enumerate(names) if _NAME.fullmatch(name)), 0)
    scan, match = names[depth], _NAME.fullmatch(names[depth])
    places = folder.absolute().parents[depth : depth + 2]
    lists = read_split_lists(places, train=_TRAIN, test=_TEST)
    yield Scene(
        scene_id,
        folder,
        tuple(frames),
        order="number",
        split=lists.split_of(scan),
        is_test=lists.is_test(scan),
        place=match.group(1) if match else None,
    )


def _size_of(k: np.ndarray) -> tuple[int, int] | None:
    """The size that K belongs to: that of the scanner, where its principal point is in its middle.

    None: somebody has changed K with the images.
    """
    rows, columns = _COLOR_SIZE
    near = abs(2 * k[0, 2] - columns) < _OFF * columns and abs(2 * k[1, 2] - rows) < _OFF * rows
    return _COLOR_SIZE if near else None


def _pose(path: Path) -> tuple[np.ndarray | Path | None, bool]:
    """The pose of a frame, None where there is none; and whether that is for lost tracking."""
    pose = read_tracked_pose(path) if is_there(path) else None
    return pose, pose is None and is_there(path)


LAYOUT = Layout(
    name="scannet",
    summary="<scene>/{color, depth, pose, intrinsic}, files named by their number; or _info.txt "
    "beside frame-NNNNNN.{color.jpg, depth.pgm, pose.txt}",
    mark=_mark,
    late_mark=_late_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=100, least=2, most=20, video_like=True),
)
