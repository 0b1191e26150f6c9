"""Which frames of a data set are wanted, in which split and which windows; nothing is read."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distill3r_core.data import splits
from distill3r_core.data.frame_reader import read_frame_pose
from distill3r_core.data.layouts import Frame, Refused, Scene
from distill3r_core.data.listing import DatasetListing
from distill3r_core.data.manifest import ManifestRow
from distill3r_core.data.manifest_cells import Split
from distill3r_core.data.windows import (
    MIN_VIEWS,
    Policy,
    PolicyName,
    Window,
    cut,
    pose_walk,
    windows,
    with_name,
)
from distill3r_core.errors import ImageError, RequestError

# From the frames of one part of a scene to its windows, as numbers of these frames.
Windower = Callable[[tuple[Frame, ...], Policy], tuple[Window, ...]]
_SIDES: tuple[Split, ...] = ("train", "val")
_ID_DIGITS = 6
_DIGEST_BYTES = 16
_NUMBER = re.compile(r"\d{1,15}")


@dataclass(frozen=True, eq=False)
class ScenePlan:
    """One scene.

    Args:
        scene: With all of its frames.
        usable: Numbers of the frames that are usable as far as is known, in order.
        splits: Split of each of these.
        windows: Places in `usable`; training windows first.
        names: Digest of the names and numbers of all frames.
    """

    scene: Scene
    usable: Sequence[int]
    splits: tuple[Split, ...]
    windows: tuple[Window, ...]
    names: bytes

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames that are usable as far as is known, in order."""
        frames = self.scene.frames
        return tuple(frames[number] for number in self.usable)

    @property
    def wanted(self) -> dict[int, list[int]]:
        """Places in `usable` that some window uses, each with the numbers of the windows."""
        used: dict[int, list[int]] = {}
        for number, window in enumerate(self.windows):
            for index in window:
                used.setdefault(index, []).append(number)
        return dict(sorted(used.items()))

    @property
    def images(self) -> int:
        """How many frames some window uses."""
        return len(set().union(*self.windows))

    def samples(self, split: Split) -> int:
        """How many windows a split has."""
        return sum(self.splits[window[0]] == split for window in self.windows)


@dataclass(frozen=True, eq=False)
class DatasetPlan:
    """A data set."""

    listing: DatasetListing
    scenes: tuple[ScenePlan, ...]  # those with at least two usable frames
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def images(self) -> int:
        """How many images some window uses."""
        return sum(scene.images for scene in self.scenes)

    @property
    def usable(self) -> int:
        """How many frames windows could use."""
        return sum(len(scene.usable) for scene in self.scenes)

    def samples(self, split: Split) -> int:
        """How many windows a split has."""
        return sum(scene.samples(split) for scene in self.scenes)

    @property
    def digest(self) -> str:
        """Of all that the manifest's rows take from the plan."""
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for scene in self.scenes:
            place = (self.listing.name, scene.scene.scene_id, scene.scene.order)
            used = tuple(scene.usable)
            digest.update(repr((place, scene.names, used, scene.splits, scene.windows)).encode())
        return digest.hexdigest()


def plan_dataset(
    listing: DatasetListing,
    unusable: Mapping[str, str],
    *,
    windower: Windower,
    images_only: bool = False,
    policy: PolicyName | None,
    val_scenes: float,
    val_frames: str | None,
) -> DatasetPlan:
    """Split a data set and cut it into windows.

    Args:
        unusable: Why frames cannot be used, by their keys.
        windower: Cuts frames into windows.
        images_only: Depth and poses are not used. Otherwise a frame without depth or pose is left
            out where others of its scene have both.
        policy: Instead of the data set's own.
        val_scenes: See `splits.split_dataset`.
        val_frames: See `splits.split_dataset`.
    """
    refused: list[Refused] = []
    found: list[tuple[Scene, Sequence[int]]] = []
    for scene in listing.scenes:
        frames = scene.frames
        bad = {
            number
            for number, frame in enumerate(frames if unusable else ())
            if listing.key_of(scene, frame) in unusable
        }
        lacks = {} if images_only else _lacking(frames)
        refused += [Refused(frames[n].image, why) for n, why in lacks.items() if n not in bad]
        usable: Sequence[int] = range(len(frames))
        if bad or lacks:
            usable = [number for number in usable if number not in bad and number not in lacks]
        if len(usable) == 1:
            reason = f"it has one frame; a sample needs {MIN_VIEWS} frames"
            refused.append(Refused(scene.folder, reason))
        elif usable:
            found.append((scene, usable))
    decision = splits.split_dataset(
        [
            splits.SceneFrames(
                f"{listing.name}/{scene.place or scene.scene_id}", len(usable), scene.split
            )
            for scene, usable in found
        ],
        val_scenes=val_scenes,
        val_frames=val_frames,
        fixed=listing.dataset.split is not None,
    )
    scenes, notes = [], [f"{listing.name}: {note}" for note in decision.notes]
    for (scene, usable), chosen in zip(found, decision.splits, strict=True):
        used = with_name(listing.dataset.policy_of(scene), policy or "auto")
        frames = tuple(scene.frames)
        names = hashlib.blake2b(repr([(frame.name, frame.number) for frame in frames]).encode())
        cuts = _windows([frames[number] for number in usable], chosen, used, windower)
        scenes.append(ScenePlan(scene, usable, chosen, cuts, names.digest()))
        notes += [
            f"{listing.name}/{scene.scene_id}: only one {side} frame; "
            f"a sample needs {MIN_VIEWS} frames"
            for side in _SIDES
            if chosen.count(side) == 1
        ]
    return DatasetPlan(listing, tuple(scenes), tuple(refused), tuple(notes))


def by_count(views: int, samples: int | None, stride: int | None) -> Windower:
    """Windows by how many frames there are, and by how far apart their numbers are."""
    return lambda frames, policy: windows(
        len(frames), policy, views, samples=samples, stride=stride, gap=median_gap(frames)
    )


def median_gap(frames: Sequence[Frame]) -> float:
    """By how much the frames' own numbers grow from one to the next, in the median.

    The number is that of the layout, or the last one in the name; 1 where a frame has none or they
    do not grow.
    """
    numbers = []
    for frame in frames:
        digits = _NUMBER.findall(frame.name)
        if frame.number is None and not digits:
            return 1.0
        numbers.append(int(digits[-1]) if frame.number is None else frame.number)
    return max(float(np.median(np.diff(numbers))), 1.0) if len(numbers) > 1 else 1.0


def by_pose(views: int, samples: int) -> Windower:
    """Windows over frames with about the same motion between them.

    The windower raises RequestError where a frame has no pose.
    """

    def walk_windows(frames: tuple[Frame, ...], policy: Policy) -> tuple[Window, ...]:
        posed, poses = [], []
        for index, frame in enumerate(frames):
            try:
                pose = read_frame_pose(frame)
            except ImageError:
                continue  # the frame itself is about to be refused for it
            if pose is None:
                raise RequestError(
                    f"--stride pose needs poses, and {frame.image} has none",
                    hint="give a number, or leave --stride out",
                )
            poses.append(pose)
            posed.append(index)
        if not posed:
            return ()
        walk = pose_walk(np.stack(poses), around_object=policy.name == "orbit")
        return cut([posed[step] for step in walk], views, samples)

    return walk_windows


def rows_of(
    plan: DatasetPlan, scene: ScenePlan, made: Callable[[str], dict[str, Any]]
) -> Iterator[ManifestRow]:
    """Manifest rows of a scene.

    Args:
        plan: The data set's.
        scene: A scene of it whose wanted frames have all been processed.
        made: Cells of the frame with a key: those of `ManifestRow` that do not come from the plan.
    """
    ids = _sample_ids(scene.scene)
    frames = scene.frames
    for index, numbers in scene.wanted.items():
        frame = frames[index]
        yield ManifestRow(
            dataset=plan.listing.name,
            split=scene.splits[index],
            scene_id=scene.scene.scene_id,
            sample_id=ids[frame.name],
            order=scene.scene.order,
            windows=tuple(numbers),
            **made(plan.listing.key_of(scene.scene, frame)),
        )


def _lacking(frames: Sequence[Frame]) -> dict[int, str]:
    """What frames of a scene lack, by their numbers, where others have both depth and pose."""
    unmapped = [number for number, frame in enumerate(frames) if frame.depth is None]
    unposed = [number for number, frame in enumerate(frames) if frame.pose is None]
    if len(frames) - len({*unmapped, *unposed}) < MIN_VIEWS:
        return {}
    return {
        **dict.fromkeys(unposed, "it has no pose, as others of its scene have"),
        **dict.fromkeys(unmapped, "it has no depth map, as others of its scene have"),
    }


def _windows(
    frames: Sequence[Frame], chosen: tuple[Split, ...], policy: Policy, windower: Windower
) -> tuple[Window, ...]:
    """Windows of each side apart: none crosses."""
    found: list[Window] = []
    for side in _SIDES:
        members = [index for index, split in enumerate(chosen) if split == side]
        part = tuple(frames[index] for index in members)
        found += [tuple(members[i] for i in window) for window in windower(part, policy)]
    return tuple(found)


def _sample_ids(scene: Scene) -> dict[str, str]:
    """Zero-padded so that string order is frame order: frame numbers where all have one."""
    numbers = [frame.number for frame in scene.frames]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or known != sorted(set(known)):
        known = list(range(len(numbers)))
    digits = max(_ID_DIGITS, len(str(max(known, default=0))))
    pairs = zip(scene.frames, known, strict=True)
    return {frame.name: f"{number:0{digits}d}" for frame, number in pairs}
