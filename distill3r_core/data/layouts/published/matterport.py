"""Layout `matterport`: tripod panoramas of Matterport3D, taken apart into walks between positions.

`<house>/matterport_color_images/<uuid>_i<camera>_<yaw>.jpg`. The 18 images of a position turn on
the spot and have no parallax, so a sequence takes one image of each position: of one camera, with
the yaw whose view direction is nearest to the one before. Facts: niessner/Matterport.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from distill3r_core.data.layouts.camera_files import read_size_and_pinhole
from distill3r_core.data.layouts.folders import entries_of
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Scene,
)
from distill3r_core.data.matrix_files import read_pose
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there

_COLOR = "matterport_color_images"
_IMAGE = re.compile(r"(.+)_i([0-2])_([0-5])\.(jpg|jpeg|png)", re.IGNORECASE)
_UNITS = 4000.0  # stored units in a meter

ARE_PANORAMAS = (
    "its images of one position turn on the spot, without parallax, and neighbors are mostly of "
    "one position (layout matterport walks between positions)"
)

_View = tuple[Frame, np.ndarray | None]  # with its pose, where it is known


def _mark(house: Path) -> str | None:
    return f"has {_COLOR}" if (house / _COLOR).is_dir() else None


def holds_panoramas(folder: Path) -> bool:
    """Whether a folder of images is, by its name, one of the data set's panoramas."""
    return folder.name == _COLOR


def _list_house(house: Path, scene_id: str) -> Iterator[Listed]:
    cameras: dict[int, dict[str, dict[int, _View]]] = defaultdict(lambda: defaultdict(dict))
    for entry in entries_of(house / _COLOR)[0]:
        if not (match := _IMAGE.fullmatch(entry.name)):
            continue
        image = house / _COLOR / entry.name
        uuid, camera, yaw = match.group(1), int(match.group(2)), int(match.group(3))
        pose_file = house / "matterport_camera_poses" / f"{uuid}_pose_{camera}_{yaw}.txt"
        k_file = house / "matterport_camera_intrinsics" / f"{uuid}_intrinsics_{camera}.txt"
        depth = house / "matterport_depth_images" / f"{uuid}_d{camera}_{yaw}.png"
        try:
            pose = read_pose(pose_file) if is_there(pose_file) else None
            rig = read_size_and_pinhole(k_file, distorted=True) if is_there(k_file) else None
        except ImageError as error:
            yield Refused(image, str(error), is_frame=True)
            continue
        frame = Frame(
            name=image.stem,
            image=image,
            pose=pose,
            depth=DepthFile(depth, scale=_UNITS, any_size=True)
            if rig is not None and is_there(depth)
            else None,
            rig=rig,
        )
        cameras[camera][uuid][yaw] = (frame, pose)
    yield Note(f"{scene_id}: images of one position turn on the spot; sequences walk between")
    for camera, positions in sorted(cameras.items()):
        for number, frames in enumerate(_walks(positions)):
            yield Scene(
                f"{scene_id}/camera{camera}-{number}",
                house,
                tuple(frames),
                order="number",
                place=scene_id,
            )


def _walks(positions: dict[str, dict[int, _View]]) -> Iterator[list[Frame]]:
    """Sequences over all positions, each image in one of them at most."""
    order = _order(positions)
    left = {uuid: dict(views) for uuid, views in positions.items()}
    while True:
        frames: list[Frame] = []
        before: np.ndarray | None = None
        for uuid in order:
            if not left[uuid]:
                continue
            yaw = min(left[uuid], key=lambda yaw: _turn(before, left[uuid][yaw][1], yaw))
            frame, pose = left[uuid].pop(yaw)
            before = pose if pose is not None else before
            frames.append(frame)
        if not frames:
            return
        yield frames


def _turn(before: np.ndarray | None, pose: np.ndarray | None, yaw: int) -> tuple[float, int]:
    """How far a view's direction is from the one before; by its number where nothing is known."""
    if before is None or pose is None:
        return 0.0, yaw
    return -float(before[:3, 2] @ pose[:3, 2]), yaw


def _order(positions: dict[str, dict[int, _View]]) -> Sequence[str]:
    """Positions from one to the nearest that is left, where their poses are known."""
    centers = {}
    for uuid, views in positions.items():
        known = [pose[:3, 3] for _, pose in views.values() if pose is not None]
        if not known:
            return sorted(positions)
        centers[uuid] = np.mean(known, axis=0)
    left = sorted(centers)
    walked = [left.pop(0)]
    while left:
        here = centers[walked[-1]]
        nearest = min(left, key=lambda uuid: (float(np.sum((centers[uuid] - here) ** 2)), uuid))
        left.remove(nearest)
        walked.append(nearest)
    return walked


LAYOUT = Layout(
    name="matterport",
    summary="<house>/matterport_color_images",
    mark=_mark,
    scan=marked_dataset(_mark, _list_house),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=60, most=3),
)
