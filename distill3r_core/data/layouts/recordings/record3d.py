"""Layout `record3d`: recordings of Record3D (iOS): a `.r3d`, packed or not, or "EXR + JPG" exports.

`NAME.r3d`, `<recording>/{metadata, rgbd/N.jpg, rgbd/N.depth, rgbd/N.conf}` or
`<recording>/{metadata.json, rgb/N.jpg, depth/N.exr}`. Facts: the answers of marek-simonik/record3d.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.folders import frame_key, names_in, numbered_files
from distill3r_core.data.layouts.marked_scenes import marked_dataset
from distill3r_core.data.layouts.recordings.record3d_archive import SUFFIX, unpack_record3d
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    PackedScene,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.matrix_files import with_centers_at_half
from distill3r_core.data.pose_formats import pose_from_quaternion
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_text_file, shown_name
from distill3r_core.io.images.media import LeftOut
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES
from distill3r_core.io.images.record3d_depth import METADATA
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of

_EXPORT = "metadata.json"
# OverflowError: a size of 1e999.
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
)


def _mark(folder: Path) -> str | None:
    if found := _unpacked_mark(folder):
        return found
    archives = _archives(folder)
    return f"holds {archives[0]}" if archives else None


def _unpacked_mark(folder: Path) -> str | None:
    if is_there(folder / METADATA) and (folder / "rgbd").is_dir():
        return f"has {METADATA} and rgbd"
    if is_there(folder / _EXPORT) and (folder / "rgb").is_dir():
        return f"has {_EXPORT} and rgb"
    return None


def _archives(folder: Path) -> list[str]:
    """Names of recordings that are packed; none beside images, which are then what is meant."""
    names = names_in(folder)
    if any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
        return []
    found = [name for name in names if name.lower().endswith(SUFFIX) and not name.startswith(".")]
    return sorted(found, key=frame_key)


def _list_scenes(folder: Path, scene_id: str) -> Iterator[Listed]:
    if _unpacked_mark(folder):
        yield from _list_recording(folder, scene_id)
    for name in _archives(folder):
        path = folder / name
        if _unpacked_mark(folder / path.stem):
            yield LeftOut(path, f"the folder {shown_name(path.stem)} beside it is this recording")
            continue
        yield PackedScene(
            f"{scene_id}/{path.stem}", path, partial(unpack_record3d, path), _list_recording
        )


def _list_recording(folder: Path, scene_id: str) -> Iterator[Listed]:
    is_raw = is_there(folder / METADATA)
    path = folder / (METADATA if is_raw else _EXPORT)
    try:
        recording = _read(path)
    except ImageError as error:
        yield Refused(path, str(error))
        return
    images = numbered_files(folder / ("rgbd" if is_raw else "rgb"), (".jpg", ".jpeg", ".png"))
    frames = []
    for number in sorted(images):
        depth = folder / (f"rgbd/{number}.depth" if is_raw else f"depth/{number}.exr")
        codec = "record3d" if is_raw else "exr"
        frames.append(
            Frame(
                name=f"{number:06d}",
                image=images[number],
                number=number,
                pose=recording.poses.get(number),
                pose_axes="opengl",
                depth=DepthFile(depth, codec, scale=1.0, any_size=True)
                if is_there(depth)
                else None,
                rig=recording.rig(number),
            )
        )
    if lost := sum(frame.pose is None for frame in frames):
        yield Note(f"{scene_id}: {counted(lost, 'frame', 'have', of=len(frames))} no pose")
    yield Scene(scene_id, folder, tuple(frames), order="number")


class _Recording:
    """What the metadata say.

    Args:
        content: Of the file.

    Raises:
        KeyError, OverflowError, TypeError, ValueError: They do not say it.
    """

    def __init__(self, content: Any) -> None:
        self._size = (int(content["h"]), int(content["w"]))
        # Column by column: fx 0 0, 0 fy 0, cx cy 1.
        self._k = with_centers_at_half(np.array(content["K"], dtype=np.float64).reshape(3, 3).T)
        per_frame = content.get("perFrameIntrinsicCoeffs") or ()
        self.cameras = [[float(value) for value in one] for one in per_frame]
        self.poses = {
            number: pose
            for number, numbers in enumerate(content.get("poses") or ())
            if (pose := _pose(numbers)) is not None
        }

    def rig(self, number: int) -> Rig:
        """K of a frame: autofocus changes it, and newer files follow that."""
        if number >= len(self.cameras):
            return Rig(self._k, self._size)
        fx, fy, cx, cy = self.cameras[number]
        k = with_centers_at_half(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))
        return Rig(k, self._size)


def _pose(numbers: Sequence[Any]) -> Float[np.ndarray, "4 4"] | None:
    """world_from_cam with OpenGL axes from `qx qy qz qw tx ty tz`; None where all are zero."""
    qx, qy, qz, qw, *translation = (float(value) for value in numbers)
    if not any((qx, qy, qz, qw)):
        return None  # the front camera does not track
    return pose_from_quaternion((qx, qy, qz, qw), translation)


def _read(path: Path) -> _Recording:
    """Raises: ImageError: The file is damaged."""
    try:
        recording = _Recording(json.loads(read_text_file(path)))
        for number in range(max(1, len(recording.cameras))):
            recording.rig(number)
    except _DAMAGED as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    return recording


LAYOUT = Layout(
    name="record3d",
    summary="NAME.r3d, <recording>/{metadata, rgbd} or <recording>/{metadata.json, rgb, depth}",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scenes, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("path", reference=100, most=30, video_like=True),
)
