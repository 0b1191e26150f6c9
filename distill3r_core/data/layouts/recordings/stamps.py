"""Streams that were recorded side by side, each with its own time stamps."""

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.pose_formats import pose_from_quaternion
from distill3r_core.data.table_files import read_table
from distill3r_core.errors import ImageError
from distill3r_core.untrusted.printable import reason_of

MAX_LAG = 0.02  # seconds between an image and its depth map (TUM's associate.py)
_LATEST = 1e12  # seconds: 30,000 years from whatever the clock counts from
MAX_POSE_GAP = 0.05  # seconds from an image to each of the poses around it
_POSE_NUMBERS = 8
_MOST_NEAR = 64  # stamps of one stream near one of another: 1,600 a second
# Digits before the decimals of a time of this century, and how many of its unit are a second.
_TICKS = {10: 1.0, 13: 1e3, 16: 1e6, 19: 1e9}
_CENTURY = (946_684_800.0, 4_102_444_800.0)  # seconds, 2000 to 2100
_TIME = re.compile(r"(?P<before>.*?)(?<![^_ -])(?P<whole>\d{1,19})(?P<part>\.\d+)?", re.DOTALL)
_SPLIT = re.compile(r"(?P<before>.*?)(?<![^_ -])(?P<whole>\d{10})_(?P<part>\d{1,9})", re.DOTALL)
_SHORTEST = 1e-4  # seconds between two frames of a camera; less is a counter


def associate(
    first: Sequence[float], second: Sequence[float], *, max_lag: float = MAX_LAG
) -> dict[int, int]:
    """Pairs of one stream's stamps with another's, the nearest pairs first, each stamp once.

    Args:
        first: Stamps in seconds, ascending.
        second: Stamps in seconds, ascending.
        max_lag: Pairs as far apart as this, or farther, are none.

    Returns:
        Numbers in `second` by numbers in `first`.

    Raises:
        ImageError: More stamps lie side by side than any camera makes.
    """
    near = []
    for one, stamp in enumerate(first):
        other = bisect.bisect_right(second, stamp - max_lag)
        if bisect.bisect_left(second, stamp + max_lag) - other > _MOST_NEAR:
            raise ImageError(f"more than {_MOST_NEAR} time stamps within {2 * max_lag:g} s")
        while other < len(second) and second[other] < stamp + max_lag:
            if abs(stamp - second[other]) < max_lag:
                near.append((abs(stamp - second[other]), one, other))
            other += 1
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, one, other in sorted(near):
        if one not in pairs and other not in taken:
            pairs[one] = other
            taken.add(other)
    return pairs


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses at ascending stamps.

    Args:
        stamps: Seconds.
        poses: world_from_cam.
    """

    stamps: tuple[float, ...]
    poses: Float[np.ndarray, "P 4 4"]

    @classmethod
    def of(cls, found: Mapping[float, Float[np.ndarray, "4 4"]]) -> "Trajectory":
        """Poses by their stamps, in any order."""
        stamps = tuple(sorted(found))
        poses = np.stack([found[stamp] for stamp in stamps]) if stamps else np.zeros((0, 4, 4))
        return cls(stamps, poses)

    @cached_property
    def _is_whole(self) -> bool:
        """Whether all stamps are whole numbers, which may then be those of images."""
        return all(stamp.is_integer() for stamp in self.stamps)

    def stamp_of_image(self, number: str | None, *, time: float | None) -> float | None:
        """The stamp at which to look for the pose of an image; None: its name tells none.

        An image with a time has the pose at that time. A whole number that is no time counts
        images: it has the pose of the line with that very number, and only where all stamps are
        whole. A trajectory in seconds also has lines at whole seconds, but the fifteenth image is
        not the one at 15 seconds.

        Args:
            number: The number in its name, as it is written there; None: there is none.
            time: Seconds, where the names of its stream are times (see `times_in`). Otherwise the
                number is a time if it has decimals, or is a time of this century.
        """
        if time is None and number is not None:
            whole, dot, decimals = number.partition(".")
            time = _seconds(whole, dot + decimals or None)
            # Whole stamps are too far apart for `at` to find another one than the counter's.
            if time is None and (dot or self._is_whole):
                time = float(number)
        return time

    def of_image(
        self, number: str | None, *, time: float | None
    ) -> Float[np.ndarray, "4 4"] | None:
        """The pose at `stamp_of_image`; None where the trajectory has none."""
        stamp = self.stamp_of_image(number, time=time)
        return None if stamp is None else self.at(stamp)

    def at(self, stamp: float, *, max_gap: float = MAX_POSE_GAP) -> Float[np.ndarray, "4 4"] | None:
        """The pose at a stamp; None where the recording has none near it.

        Between two poses within `max_gap` seconds of the stamp, the translation is interpolated
        linearly and the rotation at constant speed; else it is the nearest pose within `MAX_LAG`.
        """
        after = bisect.bisect_left(self.stamps, stamp)
        if after < len(self.stamps) and self.stamps[after] == stamp:
            return self.poses[after]
        if 0 < after < len(self.stamps):
            before, there = self.stamps[after - 1], self.stamps[after]
            if stamp - before <= max_gap and there - stamp <= max_gap:
                share = (stamp - before) / (there - before)
                return _between(self.poses[after - 1], self.poses[after], share)
        near = [i for i in (after - 1, after) if 0 <= i < len(self.stamps)]
        nearest = min(near, key=lambda i: abs(self.stamps[i] - stamp), default=None)
        if nearest is None or abs(self.stamps[nearest] - stamp) >= MAX_LAG:
            return None
        return self.poses[nearest]


def read_trajectory(path: Path) -> Trajectory:
    """A trajectory as TUM writes it: lines of `stamp tx ty tz qx qy qz qw`, `#` for comments.

    Stamps of 13, 16 or 19 digits are milli-, micro- or nanoseconds.

    Raises:
        ImageError: It cannot be read, or a line is not such a line.
    """
    found: dict[float, Float[np.ndarray, "4 4"]] = {}
    for number, words in read_table(path):
        try:
            stamp, *rest = (float(word) for word in words)
            stamp /= _TICKS.get(len(words[0].partition(".")[0]), 1.0)
        except ValueError as error:
            raise ImageError(f"{path.name}, line {number}: {reason_of(error)}") from error
        if len(words) != _POSE_NUMBERS or not is_stamp(stamp):
            raise ImageError(f"{path.name}, line {number}: not stamp tx ty tz qx qy qz qw")
        try:
            found[stamp] = pose_from_quaternion(rest[3:], rest[:3])
        except ImageError as error:
            raise ImageError(f"{path.name}, line {number}: {reason_of(error)}") from error
    return Trajectory.of(found)


def is_stamp(seconds: float) -> bool:
    """Whether a number can be the time of a recording; numbers of images are made from it."""
    return abs(seconds) <= _LATEST


def times_in(names: Sequence[str]) -> list[float] | None:
    """The times that the names of one stream's files end with; None where not all are times.

    Times are seconds, milli-, micro- or nanoseconds of this century, with or without decimals;
    other numbers with decimals, in seconds; or two numbers, seconds and the rest (`sec_nsec`,
    `sec_usec`). What stands before them is the same in all. Whole numbers that are no time of this
    century are counters.
    """
    found = [_SPLIT.fullmatch(name) for name in names]
    if found and all(found):
        times = _split_times([(match["whole"], match["part"]) for match in found if match])
    else:
        found = [_TIME.fullmatch(name) for name in names]
        times = [_seconds(match["whole"], match["part"]) if match else None for match in found]
    known = [time for time in times if time is not None]
    if len({match and match["before"] for match in found}) > 1 or len(known) < len(names):
        return None
    gaps = np.diff(sorted(known))
    return None if len(gaps) and np.median(gaps) < _SHORTEST else known


def _seconds(whole: str, part: str | None) -> float | None:
    """A number with its decimals as a time in seconds; None: it is a counter."""
    time = float(whole + (part or "")) / _TICKS.get(len(whole), 1.0)
    is_epoch = len(whole) in _TICKS and _CENTURY[0] <= time <= _CENTURY[1]
    return time if is_epoch or (part is not None and len(whole) not in _TICKS) else None


def _split_times(pairs: Sequence[tuple[str, str]]) -> list[float | None]:
    """Seconds of pairs of numbers: the longest second one says what it counts."""
    digits = max(len(part) for _, part in pairs)
    unit = {3: 1e3, 6: 1e6}.get(digits, 1e9)
    return [
        None
        if part.startswith("0") and len(part) < min(digits, 9) and part != "0"
        else float(whole) + float(part) / unit
        for whole, part in pairs
    ]


def _between(
    one: Float[np.ndarray, "4 4"], other: Float[np.ndarray, "4 4"], share: float
) -> Float[np.ndarray, "4 4"]:
    from scipy.spatial.transform import Rotation, Slerp  # it takes a tenth of a second to import

    turn = Slerp((0.0, 1.0), Rotation.from_matrix(np.stack([one[:3, :3], other[:3, :3]])))
    pose = np.eye(4)
    pose[:3, :3] = turn(share).as_matrix()
    pose[:3, 3] = (1 - share) * one[:3, 3] + share * other[:3, 3]
    return pose
