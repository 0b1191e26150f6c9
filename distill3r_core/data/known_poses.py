"""Poses from a file beside the data: a trajectory, a list, a COLMAP model, or `cameras.json`."""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from distill3r_core.data.colmap_model import has_model, read_model
from distill3r_core.data.layouts.recordings.stamps import Trajectory, read_trajectory, times_in
from distill3r_core.data.layouts.records import Frame, Rig, Scene
from distill3r_core.data.listing import DatasetListing
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.data.pose_formats import pose_from_quaternion
from distill3r_core.data.table_files import read_table
from distill3r_core.errors import ImageError, InputMissingError, RequestError
from distill3r_core.files import refuse_special
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.views import METERS, Unit

# A number with decimals stands by itself, or has the ten digits of a time of this century: the
# other `cam1.0012` is the twelfth image of the first camera.
_NUMBER = re.compile(r"(?:(?<![^_ -])|(?<!\d)(?=\d{10}\.))\d+\.\d+|\d+")
_LISTED = 8  # numbers after a name in a list: quaternion, translation, focal length


@dataclass(frozen=True, eq=False)
class KnownPose:
    """What a file says of an image.

    Args:
        pose: world_from_cam of the color camera, OpenCV axes.
        rig: Its intrinsics, where the file has them.
    """

    pose: np.ndarray
    rig: Rig | None = None


@dataclass(frozen=True, eq=False)
class Match:
    """An entry of a file that fits an image.

    Args:
        entry: Which one: a time, or an object of its own for each image that is named.
        parts: How many parts of the image's path it names; 1 where its name alone.
    """

    known: KnownPose
    entry: Hashable
    parts: int = 1


@dataclass(frozen=True, eq=False)
class KnownPoses:
    """Poses of images, by their names or by their time stamps.

    Args:
        path: Where they were read.
        unit: Unit of the poses.
        by_name: By the path of an image from its folder, with or without its suffix, and by its
            name alone where that is unique.
        trajectory: By the time in an image's name, or by its last number.
    """

    path: Path
    unit: Unit
    by_name: Mapping[str, KnownPose]
    trajectory: Trajectory | None = None

    def matches(self, frames: Sequence[Frame]) -> list[Match | None]:
        """The entry that fits each frame of a scene; None: none does."""
        if self.trajectory is None:
            return [self._by_name(frame.image) for frame in frames]
        stems = [frame.image.stem for frame in frames]
        times = times_in(stems)
        stamps = [
            self.trajectory.stamp_of_image(
                _last_number(stem), time=None if times is None else times[n]
            )
            for n, stem in enumerate(stems)
        ]
        poses = [None if stamp is None else self.trajectory.at(stamp) for stamp in stamps]
        return [
            None if pose is None else Match(KnownPose(pose), stamp)
            for stamp, pose in zip(stamps, poses, strict=True)
        ]

    def _by_name(self, image: Path) -> Match | None:
        stem = image.stem
        names = [
            ("/".join(parts[-count:]), count)
            for parts in (image.parts, image.with_suffix("").parts)
            for count in range(len(parts), 1, -1)
        ]
        # A frame of a video as `infer` calls it comes before a number that all videos have.
        names += [(f"{image.parent.stem}_{stem}", 2), (image.name, 1), (stem, 1)]
        found = ((self.by_name.get(name), parts) for name, parts in names)
        return next((Match(known, known, parts) for known, parts in found if known), None)


def read_known_poses(path: Path) -> KnownPoses:
    """Read poses.

    Args:
        path: A folder with a COLMAP model (`cameras` and `images`, `.bin` or `.txt`), the
            `cameras.json` of `infer`, a trajectory of lines `stamp tx ty tz qx qy qz qw` (world
            from camera), or a list of lines `name qw qx qy qz tx ty tz f` (camera from world, in
            meters), as structure-from-motion poses of 7-Scenes and 12-Scenes are published.

    Raises:
        InputMissingError: There is nothing.
        RequestError: It is none of these, or damaged, or a pipe or a device.
    """
    refuse_special(path)
    if not path.exists():
        raise InputMissingError(f"no such file: {path}")
    try:
        if path.is_dir():
            if not has_model(path):
                raise RequestError(
                    f"{path} holds no COLMAP model",
                    hint="a folder with cameras.bin and images.bin, or the same as .txt",
                )
            return _from_colmap(path)
        if path.suffix.lower() == ".json":
            return _from_cameras(path)
        table = read_table(path)
        if table and len(table[0][1]) > _LISTED and not _is_number(table[0][1][0]):
            return _from_list(path, table)
        trajectory = read_trajectory(path)
    except ImageError as error:
        raise RequestError(f"cannot read poses from {path}: {reason_of(error)}") from error
    if not trajectory.stamps:
        raise RequestError(f"{path} has no poses")
    return KnownPoses(path, "m", {}, trajectory)


def with_known_poses(
    listing: DatasetListing, known: KnownPoses, best: Mapping[Hashable, int]
) -> tuple[DatasetListing, tuple[int, int]]:
    """A listing whose frames have the poses of a file instead of their own.

    Frames that the file does not name have no pose: poses of two sources share no world frame.

    Args:
        best: What `best_matches` finds in the scenes of all data sets.

    Returns:
        The listing, and how many of how many frames have a pose.
    """
    found = total = 0

    def posed_scenes() -> Iterator[Scene]:
        nonlocal found, total
        for scene in listing.scenes:
            frames = posed_frames(scene.frames, known, best)
            found += sum(frame.pose is not None for frame in frames)
            total += len(frames)
            yield replace(scene, frames=frames)

    posed = listing.with_scenes(posed_scenes())
    return posed, (found, total)


def with_color_pose(
    frame: Frame, pose: Float[np.ndarray, "4 4"], *, unit: Unit, rig: Rig | None = None
) -> Frame:
    """A frame whose color camera stands at a pose.

    Args:
        frame: Its own pose is replaced.
        pose: world_from_cam, OpenCV axes.
        unit: Unit of the pose, where the frame has no depth.
        rig: Its camera, where it is not known.
    """
    rig = frame.rig or rig
    if rig is not None and rig.color_from_depth is not None:
        pose = pose @ rig.color_from_depth  # poses of such frames are those of the depth camera
    return replace(
        frame,
        pose=pose,
        pose_convention="c2w",
        pose_axes="opencv",
        rig=rig,
        unit=unit if frame.depth is None else frame.unit,
    )


def _posed(frame: Frame, here: KnownPose | None, unit: Unit) -> Frame:
    if here is None:
        return replace(frame, pose=None, unit=unit if frame.depth is None else frame.unit)
    pose = here.pose.copy()
    if frame.depth is not None and "none" not in (unit, frame.unit):
        pose[:3, 3] *= METERS[unit] / METERS[frame.unit]
    return with_color_pose(frame, pose, unit=unit, rig=here.rig)


def _last_number(stem: str) -> str | None:
    numbers = _NUMBER.findall(stem)
    return numbers[-1] if numbers else None


def posed_frames(
    frames: Sequence[Frame], known: KnownPoses, best: Mapping[Hashable, int] = MappingProxyType({})
) -> tuple[Frame, ...]:
    """The frames of a scene with the poses of a file instead of their own, or with none.

    Args:
        best: What `best_matches` finds in all scenes; empty: there are no others.
    """
    pairs = zip(frames, known.matches(frames), strict=True)
    return tuple(
        _posed(
            frame,
            None if match is None or match.parts < best.get(match.entry, 0) else match.known,
            known.unit,
        )
        for frame, match in pairs
    )


def best_matches(
    scenes: Iterable[tuple[str, Sequence[Frame]]], known: KnownPoses
) -> dict[Hashable, int]:
    """How many parts of a path each entry of a file names, at best, in several named scenes.

    A pose is of the frame whose path it names best: `one/a.png` is not of `two/a.png`, although
    it is of `a.png` where there is no other.

    Raises:
        RequestError: A pose fits frames of two scenes alike.
    """
    best: dict[Hashable, tuple[int, str, Path]] = {}
    twice: dict[Hashable, tuple[str, Path]] = {}
    for name, frames in scenes:
        for frame, match in zip(frames, known.matches(frames), strict=True):
            if match is None:
                continue
            parts, owner, image = best.get(match.entry, (0, name, frame.image))
            if match.parts > parts:
                best[match.entry] = match.parts, name, frame.image
                twice.pop(match.entry, None)
            elif match.parts == parts and owner != name and image != frame.image:
                twice.setdefault(match.entry, (name, frame.image))
    for entry, other in twice.items():
        raise _ambiguous(known.path, best[entry][1:], other)
    return {entry: parts for entry, (parts, *_) in best.items()}


def _ambiguous(path: Path, one: tuple[str, Path], other: tuple[str, Path]) -> RequestError:
    parts = [image.parts for _, image in (one, other)]
    count = next(n for n in range(1, max(map(len, parts)) + 1) if parts[0][-n:] != parts[1][-n:])
    return RequestError(
        f"{path} does not tell scenes apart: one pose of it fits {one[1].name} of {one[0]} and "
        f"{other[1].name} of {other[0]}",
        hint="give one scene at a time, with a file for each; or give a list whose names have the "
        f"folders of scenes ({'/'.join(parts[0][-count:])})",
    )


def _from_list(path: Path, table: Sequence[tuple[int, list[str]]]) -> KnownPoses:
    found = {}
    for number, words in table:
        try:
            w, x, y, z, *move, _ = (float(word) for word in words[-_LISTED:])
            cam_from_world = pose_from_quaternion((x, y, z, w), move)
            name = PurePosixPath(" ".join(words[:-_LISTED]))
            bare = name.with_suffix("")
        except (ValueError, ImageError) as error:
            raise ImageError(f"{path.name}, line {number}: {reason_of(error)}") from error
        found[str(name)] = found[str(bare)] = KnownPose(np.linalg.inv(cam_from_world))
    return KnownPoses(path, "m", _with_short_names(found))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _from_colmap(folder: Path) -> KnownPoses:
    cameras, images = read_model(folder)
    found = {}
    for image in images:
        camera = cameras[image.camera]
        k = None if camera.is_fisheye else camera.intrinsics
        rig = None if k is None else Rig(checked_intrinsics(k), (camera.height, camera.width))
        found[image.name] = KnownPose(np.linalg.inv(image.cam_from_world), rig)
    return KnownPoses(folder, "none", _with_short_names(found))


def _from_cameras(path: Path) -> KnownPoses:
    from distill3r_core.io.exports.cameras import read_cameras  # loads torch

    cameras, about = read_cameras(path)
    unit: Unit = "m" if about.get("unit") == "m" else "none"
    found = {
        camera.name: KnownPose(camera.world_from_cam, Rig(camera.intrinsics, camera.size))
        for camera in cameras
    }
    return KnownPoses(path, unit, _with_short_names(found))


def _with_short_names(found: Mapping[str, KnownPose]) -> dict[str, KnownPose]:
    """Also by the name without its folders, where no two images share it."""
    short: dict[str, list[KnownPose]] = {}
    for name, known in found.items():
        short.setdefault(Path(name).name, []).append(known)
    unique = {name: known[0] for name, known in short.items() if len(known) == 1}
    return {**unique, **found}
