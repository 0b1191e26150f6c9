"""Pairs of frames between which depth is carried."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from distill3r_core.data.conventions.readings import Conventions
from distill3r_core.data.conventions.stored_views import StoredView, carried

MIN_TURN = 10.0  # degrees between the frames of a pair
_PAIRS = 8  # per scene
_ANCHORS = 16  # frames for which a partner is sought
_STEPS = 6  # distances at which an overlapping partner is sought
_OVERLAP = 0.25  # of a pair, in either direction

Item = TypeVar("Item")


def choose_pairs(
    poses: Float[np.ndarray, "N 4 4"], view: Callable[[int], StoredView | None]
) -> list[tuple[int, int]]:
    """Pairs of frames spread over a scene.

    The partner of a frame is the nearest in order that turns by `MIN_TURN`; where the scene has
    no such pairs, the farthest in order that still overlaps.

    Args:
        poses: Stored poses; only turns are read from them, which no convention changes.
        view: Reads the view of a pose by its number; None where it cannot be read.
    """
    count = len(poses)
    anchors = sorted({round(index) for index in np.linspace(0, count - 1, min(count, _ANCHORS))})
    turning, farthest = [], []
    for anchor in anchors:
        turned = np.flatnonzero(turns(poses[anchor], poses) >= MIN_TURN)
        if len(turned):
            turning.append((anchor, int(turned[np.abs(turned - anchor).argmin()])))
    pairs = _spread([pair for pair in _unique(turning) if _overlap(pair, view)])
    if pairs:
        return pairs
    steps = sorted({round(step) for step in np.geomspace(1, count - 1, _STEPS)}, reverse=True)
    for anchor in _spread(anchors):
        nearest = sorted(set(range(count)) - {anchor}, key=lambda other: abs(other - anchor))
        tried = ((anchor, nearest[step - 1]) for step in steps)
        if (found := next((pair for pair in tried if _overlap(pair, view)), None)) is not None:
            farthest.append(found)
    return _spread(_unique(farthest))


def turns(
    pose: Float[np.ndarray, "4 4"], others: Float[np.ndarray, "N 4 4"]
) -> Float[np.ndarray, "N"]:
    """Degrees between the rotation of a pose and those of others."""
    cosine = (np.einsum("ij,nij->n", pose[:3, :3], others[:, :3, :3]) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _unique(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted({(min(pair), max(pair)) for pair in pairs})


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most `_PAIRS` items, evenly spaced."""
    chosen = {round(index) for index in np.linspace(0, len(items) - 1, min(len(items), _PAIRS))}
    return [items[index] for index in sorted(chosen)] if items else []


def _overlap(pair: tuple[int, int], view: Callable[[int], StoredView | None]) -> bool:
    """Whether two frames overlap under any reading of the poses and of K."""
    first, second = view(pair[0]), view(pair[1])
    if first is None or second is None:
        return False
    readings = [Conventions(), *first.other_poses(), *first.other_sizes()]
    return any(carried(first, second, given).overlap >= _OVERLAP for given in readings)
