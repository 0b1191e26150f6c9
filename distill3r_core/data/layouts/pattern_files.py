"""Depth, poses and intrinsics that a pattern names beside images, matched to scenes and frames.

A file belongs to the scene of the same wildcard parts, and to the image whose name has the same
part in place of its wildcards; where no name has, to the image nearest in time.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeVar

import numpy as np
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.data.layouts.camera_files import read_camera
from distill3r_core.data.layouts.folders import frame_key
from distill3r_core.data.layouts.recordings.stamps import (
    associate,
    is_stamp,
    read_trajectory,
)
from distill3r_core.data.layouts.records import DepthFile, Frame, Note, Refused, Rig
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ImageError

_Item = TypeVar("_Item")
_WILDCARDS = frozenset("*?[]")
_ARRAYS = {".npy": "array", ".npz": "array", ".pfm": "pfm", ".exr": "exr", ".h5": "h5"}
_STAMP = re.compile(r"\d+(?:\.\d+)?")
_SPLIT_STAMP = re.compile(r"(1\d{9})_(\d{1,9})")  # seconds, and nanoseconds without leading zeros
# Digits of a whole number that is a time of this century in milli-, micro- or nanoseconds.
_TICKS = {13: 1e3, 16: 1e6, 19: 1e9}


def check_pattern(pattern: str) -> str:
    """The pattern, if it is a glob of files below a folder.

    Raises:
        ValueError: It is empty, leaves the folder, or has `**` beside other letters.
    """
    parts = PurePosixPath(pattern).parts
    if not parts or pattern.startswith("/") or ".." in parts:
        raise ValueError("a pattern names files below the root")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("** stands between slashes: it is any number of folders")
    return pattern


Pattern = Annotated[str, AfterValidator(check_pattern)]


@dataclass(frozen=True, kw_only=True, config=config.STRICT)
class FilesBeside:
    """Globs below the root for what lies beside the images; None: there is none.

    Args:
        depth: Depth maps that show what the images show, as large as these.
        depth_scale: Stored units of depth in a meter; None: 1000 in images, 1 in float files.
        poses: Text files of sixteen numbers, one an image; or one trajectory of TUM's form a scene.
        intrinsics: A file a scene, or one for all; or fx, fy, cx, cy, pixel centers at +0.5.
    """

    depth: Pattern | None = None
    depth_scale: float | None = Field(default=None, gt=0)
    poses: Pattern | None = None
    intrinsics: Pattern | tuple[float, float, float, float] | None = None


def scene_of(folder: Path, pattern: str) -> str:
    """Path parts of a folder below the root that a pattern does not spell out, joined by "/"."""
    parts = PurePosixPath(pattern).parts
    literal = {part for part in parts if not _WILDCARDS & set(part)}
    return "/".join(part for part in folder.parts if part not in literal)


class BesideIndex:
    """What lies beside the images of a root, found once and told by scene.

    Args:
        root: What all patterns start from.
        images: The glob of the images.
        beside: Globs of the other files.
    """

    def __init__(self, root: Path, images: str, beside: FilesBeside) -> None:
        self._images, self._beside = images, beside
        self._files = {
            pattern: _by_scene(root, pattern)
            for pattern in (beside.depth, beside.poses, beside.intrinsics)
            if isinstance(pattern, str)
        }

    def attach(self, scene: str, frames: Sequence[Frame]) -> Iterator[Frame | Note | Refused]:
        """The frames of a scene with what lies beside them, and remarks on what has no partner.

        Args:
            scene: As `scene_of` gives it.
        """
        shown = scene or frames[0].image.parent.name
        depths, poses = dict[Frame, Path](), dict[Frame, Path | np.ndarray]()
        rig: Rig | None = None
        try:
            if (pattern := self._beside.depth) is not None:
                files = self._of_scene(scene, pattern)
                depths = _partners(frames, self._images, files, pattern)
                yield from _alone(shown, "depth map", frames, depths, len(files))
            if (pattern := self._beside.poses) is not None:
                poses = _poses(frames, self._images, self._of_scene(scene, pattern), pattern)
                yield from _alone(shown, "pose", frames, poses, len(poses))
            if self._beside.intrinsics is not None:
                rig, remark = self._rig(scene, self._beside.intrinsics)
                if remark is not None:
                    yield Note(f"{shown}: {remark}")
        except ImageError as error:
            yield Refused(frames[0].image.parent, str(error))
            return
        for frame in frames:
            depth = depths.get(frame)
            yield replace(
                frame,
                depth=None if depth is None else _depth_file(depth, self._beside.depth_scale),
                pose=poses.get(frame),
                rig=rig,
            )

    def _of_scene(self, scene: str, pattern: str) -> list[Path]:
        """Files of a scene: those of its wildcards, else those that stand for all scenes.

        Raises:
            ImageError: There is none.
        """
        files = self._files[pattern]
        if not (found := files.get(scene) or files.get("")):
            raise ImageError(f"no file {pattern!r} belongs to it")
        return found

    def _rig(
        self, scene: str, intrinsics: str | tuple[float, float, float, float]
    ) -> tuple[Rig, str | None]:
        if not isinstance(intrinsics, str):
            fx, fy, cx, cy = intrinsics
            return Rig(checked_intrinsics(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))), None
        files = self._of_scene(scene, intrinsics)
        if len(files) > 1:
            raise ImageError(f"{len(files)} files {intrinsics!r} belong to it, not one")
        return read_camera(files[0])


def _by_scene(root: Path, pattern: str) -> dict[str, list[Path]]:
    """Files of a pattern in natural order, by the scene that they belong to."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.glob(pattern), key=lambda path: frame_key(str(path))):
        if path.is_file():
            found.setdefault(scene_of(path.relative_to(root).parent, pattern), []).append(path)
    return found


def _partners(
    frames: Sequence[Frame], pattern: str, files: Sequence[Path], of_files: str
) -> dict[Frame, Path]:
    """The file of each frame: that of its name, else where no name fits the nearest in time."""
    by_key = {_key(path, of_files): path for path in files}
    if len(by_key) < len(files):
        raise ImageError(f"two files {of_files!r} are of one name")
    keys = [_key(frame.image, pattern) for frame in frames]
    named = {frame: by_key[key] for frame, key in zip(frames, keys, strict=True) if key in by_key}
    if named:
        return named
    ours = _by_stamp(zip(keys, frames, strict=True))
    theirs = _by_stamp((key, path) for key, path in by_key.items())
    if ours is None or theirs is None:
        raise ImageError(f"no name of {of_files!r} is that of an image, and not all are times")
    images, others = list(ours.values()), list(theirs.values())
    pairs = associate(list(ours), list(theirs))
    return {images[one]: others[other] for one, other in pairs.items()}


def _poses(
    frames: Sequence[Frame], pattern: str, files: Sequence[Path], of_files: str
) -> dict[Frame, Path | np.ndarray]:
    if len(files) == 1 and len(frames) > 1:
        trajectory = read_trajectory(files[0])
        stamps = {frame: stamp_of(_key(frame.image, pattern)) for frame in frames}
        found = {
            frame: trajectory.at(stamp) for frame, stamp in stamps.items() if stamp is not None
        }
        return {frame: pose for frame, pose in found.items() if pose is not None}
    return dict(_partners(frames, pattern, files, of_files))


def _alone(
    scene: str, what: str, frames: Sequence[Frame], found: Mapping[Frame, object], files: int
) -> Iterator[Note]:
    if lost := len(frames) - len(found):
        yield Note(f"{scene}: {lost} of {len(frames)} images have no {what}")
    if spare := files - len(found):
        yield Note(f"{scene}: {spare} of {files} {what}s belong to no image")


def _depth_file(path: Path, scale: float | None) -> DepthFile:
    codec = _ARRAYS.get(path.suffix.lower())
    if codec is None:
        return DepthFile(path, scale=1000.0 if scale is None else scale)
    return DepthFile(path, codec, scale=1.0 if scale is None else scale, invalid=(0,))


def _key(path: Path, pattern: str) -> str:
    """What stands in a file's name in place of the pattern's wildcards, its suffix left out."""
    name, last = path.name, PurePosixPath(pattern).name
    if _WILDCARDS & set(PurePosixPath(last).suffix):
        name, last = path.stem, PurePosixPath(last).stem
    places = [place for place, letter in enumerate(last) if letter in _WILDCARDS]
    if not places:
        return name
    return name[places[0] : len(name) - (len(last) - 1 - places[-1])]


def _by_stamp(items: Iterable[tuple[str, _Item]]) -> dict[float, _Item] | None:
    """Items by their times, ascending; None where a name is no time, or two are the same."""
    stamped = [(stamp_of(key), item) for key, item in items]
    found = {stamp: item for stamp, item in stamped if stamp is not None}
    return dict(sorted(found.items())) if len(found) == len(stamped) else None


def stamp_of(name: str) -> float | None:
    """The time in seconds that a name ends with; None: none.

    Seconds with decimals; whole milli-, micro- or nanoseconds of this century; or the two numbers
    of a ROS stamp, `sec_nsec`.
    """
    if split := _SPLIT_STAMP.search(name):
        return int(split[1]) + int(split[2]) / 1e9
    numbers = _STAMP.findall(name)
    if not numbers:
        return None
    seconds = float(numbers[-1]) / _TICKS.get(len(numbers[-1]), 1.0)
    return seconds if is_stamp(seconds) else None
