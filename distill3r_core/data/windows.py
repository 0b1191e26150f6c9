"""Which frames of a scene form a sample: one pure function from a number of frames to windows.

The strides follow the paper's section IV in words (arXiv:2602.00865); it gives no constants, so
those here are a proposal: windows wide enough to have parallax, near enough to overlap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

PolicyName = Literal["orbit", "path", "cloud", "release"]
Window = tuple[int, ...]

MIN_VIEWS = 2
SAMPLES = 5  # of a scene, unless it is short
SHORT = 300  # frames below which a video-like scene is used whole
RELEASE_SEED = 42
_STEP_METERS, _STEP_RADIANS = 0.25, math.radians(15)


@dataclass(frozen=True)
class Policy:
    """How far apart the views of a sample are.

    Args:
        name: "orbit" for a turn around an object, "path" for a camera that moves through a place,
            "cloud" for images without an order, "release" for the original project's cut.
        video_like: Whether somebody has recorded the frames and perhaps thinned them since: the
            stride then counts in numbers of the recording, and a short scene is used whole.
    """

    name: PolicyName
    reference: int = 100  # the number of frames that has stride 1 ("path", "cloud")
    least: int = 1
    most: int = 30
    video_like: bool = False


PATH = Policy("path", video_like=True)
CLOUD = Policy("cloud", video_like=True)
RELEASE = Policy("release")


def windows(
    frames: int,
    policy: Policy,
    views: int,
    *,
    samples: int | None = None,
    stride: int | None = None,
    gap: float = 1.0,
) -> tuple[Window, ...]:
    """The samples of one scene, as numbers of frames from 0, in order.

    No window repeats a frame. Two share frames only where the last one of a path or cloud is
    aligned to the end, and that only where at least half of it is new, or where all frames of the
    scene are used.

    Args:
        frames: How many usable frames the scene has, in their order.
        views: Views a sample has; a scene with fewer frames is one smaller sample.
        samples: Keep at most so many, spread evenly. None: `SAMPLES`, and as many as it takes to
            use every frame where a video-like scene has fewer than `SHORT`.
        stride: Overrides the policy's own stride, and is taken as it is.
        gap: By how much the frames' own numbers grow from one to the next, in the median.
    """
    if frames < MIN_VIEWS:
        return ()
    limit = SAMPLES if samples is None else samples
    if policy.name == "release":
        count = release_count(frames, views, limit)
        return tuple(release_window(frames, views, index) for index in range(count))
    step = stride_of(frames, policy, views, gap=gap) if stride is None else stride
    if policy.name == "orbit":
        return _phases(frames, step, views, limit)
    if policy.video_like and frames < SHORT and samples is None:
        return _whole(frames, step, views, phases=step if stride is None else 1)
    return cut(range(0, frames, step), views, limit)


def stride_of(frames: int, policy: Policy, views: int, *, gap: float = 1.0) -> int:
    """The policy's stride: never so wide that a scene of `views` frames fills no sample.

    Args:
        gap: See `windows`; a video-like scene that was thinned to every fifth frame already has
            a fifth of the stride left.
    """
    if policy.name == "orbit":
        step = (frames - 1) // max(views - 1, 1)
    elif policy.name == "path":
        step = round(frames / policy.reference)
    else:
        step = round(math.sqrt(frames / policy.reference))
    step = min(max(step, policy.least), policy.most)
    if policy.video_like and gap > 1:
        step = round(step / gap)
    widest = (frames - 1) // max(views - 1, 1)
    return max(min(step, widest), 1)


def cut(
    frames: Sequence[int], views: int, samples: int, *, min_tail: int | None = None
) -> tuple[Window, ...]:
    """Consecutive windows over frames already spaced; fewer than `views` are one window.

    Args:
        samples: Keep at most so many, spread evenly.
        min_tail: New frames that a last window aligned to the end must have; None: half of it.
    """
    frames = tuple(frames)
    if len(frames) < MIN_VIEWS:
        return ()
    if len(frames) < views:
        return (frames,)
    starts = list(range(0, len(frames) - views + 1, views))
    tail = len(frames) % views
    if tail and (2 * tail >= views if min_tail is None else tail >= min_tail):
        starts.append(len(frames) - views)
    kept = [starts[index] for index in _spread(len(starts), samples)]
    return tuple(frames[start : start + views] for start in kept)


def pose_walk(
    world_from_cam: Float[np.ndarray, "F 4 4"], *, around_object: bool = False
) -> tuple[int, ...]:
    """Frames with about the same motion between neighbors (`--stride pose`).

    Args:
        world_from_cam: Camera poses in meters, in order.
        around_object: Count the angle around the point that the cameras look at, and no distance.

    Returns:
        Numbers of frames, the first one always. The next is kept when
        `distance / 0.25 m + angle / 15°` reaches 1.
    """
    centers, rotations = world_from_cam[:, :3, 3], world_from_cam[:, :3, :3]
    spokes = _unit(centers - _looked_at(centers, rotations[:, :, 2])) if around_object else None
    kept = [0]
    for frame in range(1, len(world_from_cam)):
        last = kept[-1]
        if spokes is not None:
            motion = _angle(float(spokes[last] @ spokes[frame])) / _STEP_RADIANS
        else:
            turned = np.trace(rotations[last].T @ rotations[frame])
            distance = float(np.linalg.norm(centers[frame] - centers[last]))
            motion = distance / _STEP_METERS + _angle((turned - 1) / 2) / _STEP_RADIANS
        if motion >= 1:
            kept.append(frame)
    return tuple(kept)


def release_count(frames: int, views: int, samples: int) -> int:
    """How many samples the original project takes of a scene."""
    return min(samples, frames // views) if frames >= MIN_VIEWS else 0


def release_window(frames: int, views: int, index: int, *, seed: int = RELEASE_SEED) -> Window:
    """Sample number `index` as the original project chooses it.

    With fewer frames than views (which `release_count` keeps out) it draws with repetition, from
    NumPy's legacy generator.
    """
    if frames < views:
        draws = np.random.RandomState(seed + index).randint(0, frames, views)
        return tuple(sorted(draws.tolist()))
    start = index * views
    if start + views > frames:
        start = frames - views
    return tuple(range(start, start + views))


def with_name(policy: Policy, name: PolicyName | Literal["auto"]) -> Policy:
    """The policy, or another one by name with the same limits where one is asked for."""
    return policy if name == "auto" else replace(policy, name=name)


def _whole(frames: int, step: int, views: int, *, phases: int) -> tuple[Window, ...]:
    """Windows of every phase of a stride, so that all of their frames are used."""
    if phases > 1:
        step = phases = max(min(step, frames // MIN_VIEWS), 1)
    found: list[Window] = []
    for phase in range(phases):
        found += cut(range(phase, frames, step), views, frames, min_tail=1)
    return tuple(found)


def _phases(frames: int, step: int, views: int, samples: int) -> tuple[Window, ...]:
    """Windows over the whole turn that begin at different frames and share none."""
    span = (views - 1) * step + 1
    if span > frames:
        return cut(range(0, frames, step), views, 1)
    latest = min(frames - span, step - 1)
    count = min(samples, latest + 1)
    starts = [round(value) for value in np.linspace(0, latest, count).tolist()]
    return tuple(tuple(range(start, start + span, step)) for start in starts)


def _spread(count: int, kept: int) -> list[int]:
    """At most `kept` of the numbers below `count`, evenly spaced, ends included."""
    if count <= kept:
        return list(range(count))
    return [round(value) for value in np.linspace(0, count - 1, kept).tolist()]


def _looked_at(
    centers: Float[np.ndarray, "F 3"], axes: Float[np.ndarray, "F 3"]
) -> Float[np.ndarray, "3"]:
    """The point nearest to all optical axes, in the sense of least squares."""
    axes = _unit(axes)
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]  # (F, 3, 3)
    right = (across @ centers[:, :, None]).sum(axis=0)[:, 0]
    # lstsq, not solve: axes that are all parallel leave the point free along them.
    return np.linalg.lstsq(across.sum(axis=0), right, rcond=None)[0]


def _unit(vectors: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _angle(cosine: float) -> float:
    return math.acos(min(max(cosine, -1.0), 1.0))
