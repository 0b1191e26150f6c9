"""Layout `strayscanner`: recordings of Stray Scanner (iOS), a video with depth beside it.

`<recording>/{rgb.mp4, depth/NNNNNN.png, confidence/NNNNNN.png, odometry.csv, camera_matrix.csv}`;
early versions wrote depth as `.npy`. The n-th decoded frame of the video is frame n of all else:
its presentation times count skipped frames too. Facts: strayrobots/scanner `docs/format.md`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.folders import numbered_files
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Rig,
    VideoScene,
)
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.pose_formats import pose_from_quaternion
from distill3r_core.data.table_files import read_table
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of

_VIDEO, _POSES, _CAMERA = "rgb.mp4", "odometry.csv", "camera_matrix.csv"
_CONFIDENT = 2  # of 0 to 2
_CODECS = {".png": "png16", ".npy": "array"}
_POSE_NUMBERS = 7  # x y z qx qy qz qw, behind a stamp and a frame number or alone


def _mark(folder: Path) -> str | None:
    is_recording = all(is_there(folder / name) for name in (_VIDEO, _POSES, _CAMERA))
    return f"has {_VIDEO}, {_POSES} and {_CAMERA}" if is_recording else None


def _list_recording(folder: Path, scene_id: str) -> Iterator[Listed]:
    try:
        rig = Rig(_intrinsics(folder / _CAMERA))  # of the last frame, for the video's own size
        poses = _poses(folder / _POSES)
    except ImageError as error:
        yield Refused(folder, str(error))
        return
    depths = numbered_files(folder / "depth", _CODECS)
    confidences = numbered_files(folder / "confidence", (".png",))
    beside = {}
    for number, pose in poses.items():
        depth = None
        if (path := depths.get(number)) is not None:
            depth = DepthFile(
                path,
                codec=_CODECS[path.suffix.lower()],
                valid=confidences.get(number),
                min_valid=_CONFIDENT,
                any_size=True,
            )
        beside[number] = Frame(
            name=f"{number:06d}",
            image=folder / _VIDEO,
            number=number,
            pose=pose,
            depth=depth,
            rig=rig,
        )
    if lost := sum(number not in depths for number in poses):
        yield Note(f"{scene_id}: {counted(lost, 'frame', 'have', of=len(poses))} no depth")
    yield VideoScene(scene_id, folder / _VIDEO, beside)


def _intrinsics(path: Path) -> Float[np.ndarray, "3 3"]:
    rows = [words for _, words in read_table(path)]
    try:
        k = np.array([[float(word) for word in words] for words in rows])
        if k.shape != (3, 3):
            raise ValueError(f"it has {counted(len(rows), 'line')}")
        return checked_intrinsics(k)
    except (ValueError, ImageError) as error:
        raise ImageError(f"{path.name} is not the K of a camera: {reason_of(error)}") from error


def _poses(path: Path) -> dict[int, Float[np.ndarray, "4 4"]]:
    """world_from_cam by frame: the app has turned ARKit's axes to those of OpenCV already."""
    found = {}
    for number, words in read_table(path):
        if not found and not _is_number(words[0]):
            continue  # the header, which early versions lack
        try:
            has_stamp = len(words) == _POSE_NUMBERS + 2
            frame = int(words[1]) if has_stamp else len(found)
            x, y, z, *quaternion = (float(word) for word in (words[2:] if has_stamp else words))
            found[frame] = pose_from_quaternion(quaternion, (x, y, z))
        except (ValueError, ImageError) as error:
            raise ImageError(f"{path.name}, line {number}: {reason_of(error)}") from error
    if not found:
        raise ImageError(f"{path.name} has no poses")
    return found


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


LAYOUT = Layout(
    name="strayscanner",
    summary="<recording>/{rgb.mp4, depth, confidence, odometry.csv, camera_matrix.csv}",
    mark=_mark,
    scan=marked_dataset(_mark, _list_recording, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", most=1, video_like=True),
)
