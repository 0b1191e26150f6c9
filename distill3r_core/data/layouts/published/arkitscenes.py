"""Layout `arkitscenes`: handheld scans of rooms with an iPad.

`{raw,3dod}/{Training,Validation}/<video>/{vga_wide | lowres_wide, ..._intrinsics, lowres_depth,
confidence, lowres_wide.traj}`, in `3dod` one folder deeper, in `<video>_frames`; the names end in a
time stamp. Images are stored as the sensor saw them: whole videos lie on their side, and are turned
upright by their mean pose. Facts: apple/ARKitScenes `DATA.md`, naver/dust3r.
"""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.camera_files import read_size_and_pinhole
from distill3r_core.data.layouts.folders import entries_of, one_dataset
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.recordings.stamps import (
    Trajectory,
    associate,
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
from distill3r_core.data.manifest_cells import Split
from distill3r_core.data.pose_formats import pose_from_rotation_vector
from distill3r_core.data.table_files import read_table
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, open_to_read, refuse_special
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of

_STREAMS = ("vga_wide", "lowres_wide")  # the larger images first
_TRAJECTORY = "lowres_wide.traj"  # of both: one camera
_STAMPED = re.compile(r"(.*_)(\d+\.\d+)\.(png|pincam)", re.IGNORECASE)
_POSE_GAP = 0.1  # seconds; poses come about ten times a second
_CONFIDENT = 2  # of 0 to 2
_FAST_GAP = 0.025  # seconds; images come 60 or 30 times a second
_FAST = Policy("path", reference=150, least=10, most=60)  # of 60 images a second
_SPLITS: dict[str, Split] = {"Training": "train", "Validation": "val"}
_VISITS = ("raw_train_val_splits.csv", "3dod_train_val_splits.csv")
_VISITS_BESIDE = ("", "raw", "3dod")
_VISITS_ABOVE = 2  # folders: the root may be `Training`, or a video
_FRAMES = "_frames"


def _mark(folder: Path) -> str | None:
    stream = _stream_of(folder)
    return f"has {stream} and its intrinsics" if stream else None


def _stream_of(folder: Path) -> str | None:
    """The images to take of a video; None: the folder is none."""
    return next(
        (
            name
            for name in _STREAMS
            if (folder / f"{name}_intrinsics").is_dir() and (folder / name).is_dir()
        ),
        None,
    )


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    """The videos below a folder, those of one visit as one place: they show one room.

    Raises:
        RequestError: The list of visits is a pipe or a device.
        OSError: It cannot be read.
    """
    visits = {}
    path = _visits_file(root)
    if path is not None:
        refuse_special(path)
        with os.fdopen(open_to_read(path), newline="", encoding="utf-8", errors="replace") as file:
            visits = {
                line["video_id"]: f"visit {line['visit_id']}"
                for line in csv.DictReader(file)
                if line.get("video_id") and line.get("visit_id") not in (None, "", "NA")
            }
    yield from marked_scenes(root, skip, _mark, partial(_list_scene, visits=visits))


def _visits_file(root: Path) -> Path | None:
    """The list of which videos show one room: in the root, its parts, or above it."""
    above = root.resolve().parents[:_VISITS_ABOVE]
    places = (
        base / part / name for base in (root, *above) for part in _VISITS_BESIDE for name in _VISITS
    )
    return next(filter(is_there, places), None)


def _list_scene(folder: Path, scene_id: str, *, visits: dict[str, str]) -> Iterator[Listed]:
    stream = _stream_of(folder)
    assert stream is not None, "looked for it before"
    images = _stamped(folder / stream)
    stamps = sorted(images)
    cameras = {
        round(1000 * stamp): path
        for stamp, path in _stamped(folder / f"{stream}_intrinsics").items()
    }
    depths = _stamped(folder / "lowres_depth")
    depth_stamps = sorted(depths)
    pairs = associate(stamps, depth_stamps)
    poses = _trajectory(folder / _TRAJECTORY)
    frames, blind = [], 0
    for number, stamp in enumerate(stamps):
        rig = _rig(cameras, stamp)
        blind += rig is None
        there = pairs.get(number) if rig is not None else None
        frames.append(
            Frame(
                name=images[stamp].stem,
                image=images[stamp],
                number=round(1000 * stamp),
                pose=poses.at(stamp, max_gap=_POSE_GAP),
                depth=None if there is None else _depth(folder, depths[depth_stamps[there]]),
                rig=rig,
            )
        )
    if blind:
        yield Note(f"{scene_id}: {counted(blind, 'image', 'have')} no intrinsics within 0.001 s")
    turns = _upright(frames)
    if turns:
        yield Note(f"{scene_id}: turned upright by {90 * turns} degrees against the clock")
    # Below the root: whatever the folders above it are called says nothing of the data.
    side = next((part for part in scene_id.split("/") if part in _SPLITS), None)
    yield Scene(
        scene_id,
        folder,
        tuple(replace(frame, turns=turns) for frame in frames),
        order="number",
        split=None if side is None else _SPLITS[side],
        is_test=side in (None, "Validation"),
        place=visits.get(folder.name.removesuffix(_FRAMES)),
        policy=_FAST if len(stamps) > 1 and np.median(np.diff(stamps)) < _FAST_GAP else None,
    )


def _upright(frames: Sequence[Frame]) -> int:
    """Quarter turns against the clock that bring a video upright: the world's z is up.

    0 where no pose says which way that is.
    """
    poses = [frame.pose for frame in frames if isinstance(frame.pose, np.ndarray)]
    if not poses:
        return 0
    # Where up is in the images, on average: a camera that looks up or down adds little.
    x, y = np.mean([pose[2, :2] for pose in poses], axis=0)
    if abs(y) >= abs(x):
        return 0 if y <= 0 else 2
    return 1 if x > 0 else 3


def _stamped(folder: Path) -> dict[float, Path]:
    """Files of a folder by the time stamps in their names."""
    if not folder.is_dir():
        return {}
    matches = ((_STAMPED.fullmatch(entry.name), entry.name) for entry in entries_of(folder)[0])
    return {float(match.group(2)): folder / name for match, name in matches if match}


def _rig(cameras: dict[int, Path], stamp: float) -> Rig | None:
    """K of an image: the file may be a thousandth of a second off; None: there is none."""
    wanted = round(1000 * stamp)
    path = next(
        (cameras[near] for near in (wanted, wanted - 1, wanted + 1) if near in cameras), None
    )
    return None if path is None else read_size_and_pinhole(path)


def _depth(folder: Path, path: Path) -> DepthFile:
    confidence = folder / "confidence" / path.name
    return DepthFile(
        path,
        valid=confidence if is_there(confidence) else None,
        min_valid=_CONFIDENT,
        any_size=True,
    )


def _trajectory(path: Path) -> Trajectory:
    """Poses of a `.traj` file: `stamp rx ry rz tx ty tz`, camera-from-world."""
    found = {}
    for number, words in read_table(path) if is_there(path) else ():
        try:
            stamp, *rest = (float(word) for word in words)
            found[stamp] = np.linalg.inv(pose_from_rotation_vector(rest[:3], rest[3:]))
        except (ValueError, ImageError) as error:
            raise ImageError(f"{path.name}, line {number}: {reason_of(error)}") from error
    return Trajectory.of(found)


LAYOUT = Layout(
    name="arkitscenes",
    summary="{raw,3dod}/{Training,Validation}/<video>/{vga_wide, lowres_depth, ...}",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=150, least=5, most=30),
)
