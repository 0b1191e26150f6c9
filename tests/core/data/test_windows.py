"""Windows keep the promises of the sampling rules, whatever the number of frames."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill3r_core.data.layouts import LAYOUTS, Frame
from distill3r_core.data.layouts.pattern import policy_for
from distill3r_core.data.planning import median_gap
from distill3r_core.data.windows import (
    CLOUD,
    PATH,
    RELEASE,
    SHORT,
    Policy,
    cut,
    pose_walk,
    stride_of,
    windows,
)

POLICIES = st.sampled_from(
    [PATH, CLOUD, RELEASE, *(policy_for(name) for name in ("CO3D", "DTU", "7scenes", "MegaDepth"))]
)


@settings(max_examples=300, deadline=None)
@given(
    frames=st.integers(0, 3000),
    policy=POLICIES,
    views=st.integers(2, 24),
    samples=st.integers(1, 8),
    stride=st.none() | st.integers(1, 40),
)
def test_no_window_repeats_a_frame_or_leaves_the_scene(
    frames, policy, views, samples, stride
) -> None:
    found = windows(frames, policy, views, samples=samples, stride=stride)
    assert len(found) <= samples
    for window in found:
        assert 2 <= len(window) <= views
        assert list(window) == sorted(set(window))
        assert window[0] >= 0
        assert window[-1] < frames


@settings(max_examples=300, deadline=None)
@given(frames=st.integers(2, 3000), policy=POLICIES, views=st.integers(2, 24))
def test_windows_share_frames_only_at_the_end(frames, policy, views) -> None:
    found = windows(frames, policy, views, samples=1000)
    for first, second in itertools.combinations(found, 2):
        shared = set(first) & set(second)
        if shared:
            assert policy.name in ("path", "cloud")
            assert second == found[-1]
            assert first == found[-2]
            assert len(shared) <= views / 2


@settings(max_examples=300, deadline=None)
@given(
    frames=st.integers(2, 3000),
    most=st.integers(1, 40),
    views=st.integers(2, 24),
    samples=st.integers(1, 12),
)
def test_phases_of_an_orbit_are_even(frames, most, views, samples) -> None:
    policy = Policy("orbit", most=most)
    firsts = [window[0] for window in windows(frames, policy, views, samples=samples)]
    step = stride_of(frames, policy, views)
    # Beyond the stride a phase would begin with a frame that the first one has.
    latest = min(step - 1, max(frames - ((views - 1) * step + 1), 0))
    assert len(firsts) == min(samples, latest + 1)
    gaps = np.diff(firsts).tolist()
    assert all(gap >= 1 for gap in gaps)
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    assert firsts[0] == 0
    assert len(firsts) == 1 or firsts[-1] == latest


@settings(max_examples=200, deadline=None)
@given(frames=st.integers(2, 5000), policy=POLICIES, views=st.integers(2, 24))
def test_the_stride_is_within_its_limits_and_fills_a_sample(frames, policy, views) -> None:
    if policy.name == "release":
        return
    step = stride_of(frames, policy, views)
    assert 1 <= step <= policy.most
    if frames >= views:
        assert (views - 1) * step + 1 <= frames
        assert len(windows(frames, policy, views)[0]) == views


@pytest.mark.parametrize(  # DATASETS.md 11
    ("dataset", "frames", "step"),
    [
        ("CO3D-v2", 102, 5),
        ("CO3D_single", 202, 10),
        ("DTU", 49, 2),
        ("ScanNetPP", 600, 3),
        ("Habitat", 120, 2),
        ("ARKitScenes", 2000, 13),
        ("MegaDepth", 400, 2),
        ("MegaDepth", 2500, 5),
        ("BlendedMVS", 150, 1),
        ("BlendedMVS", 450, 3),
        ("7-Scenes", 1000, 10),
        ("12scenes", 1000, 10),
    ],
)
def test_the_table_of_strides(dataset, frames, step) -> None:
    assert stride_of(frames, policy_for(dataset), 20) == step


@pytest.mark.parametrize(
    ("layout", "frames", "step"),
    [
        *(("co3d", 102, 5), ("co3d", 202, 10), ("dtu", 49, 2), ("scannetpp", 600, 3)),
        *(("habitat", 5, 1), ("matterport", 120, 2), ("arkitscenes", 2000, 13)),
        *(("megadepth", 400, 2), ("megadepth", 2500, 5), ("blendedmvs", 150, 1)),
        *(("blendedmvs", 450, 3), ("7scenes", 1000, 10), ("12scenes", 1000, 10)),
    ],
)
def test_layouts_have_the_strides_of_the_table(layout, frames, step) -> None:
    policy = LAYOUTS[layout].policy
    assert policy is not None and stride_of(frames, policy, 20) == step


@settings(max_examples=300, deadline=None)
@given(
    frames=st.integers(2, SHORT - 1),
    policy=st.sampled_from([PATH, CLOUD, policy_for("7scenes"), policy_for("12scenes")]),
    views=st.integers(2, 24),
    gap=st.floats(1, 40),
)
def test_a_short_recording_is_used_whole(frames, policy, views, gap) -> None:
    found = windows(frames, policy, views, gap=gap)
    assert set(itertools.chain(*found)) == set(range(frames))
    assert all(2 <= len(window) <= views for window in found)
    steps = {step for window in found for step in np.diff(window).tolist()}
    assert len(steps) == 1  # even
    for one, other in itertools.combinations(found, 2):
        if set(one) & set(other):  # the tail of their phase
            assert one[0] % min(steps) == other[0] % min(steps)
            assert found.index(other) == found.index(one) + 1


@settings(max_examples=100, deadline=None)
@given(frames=st.integers(2, 5000), gap=st.floats(1, 60), views=st.integers(2, 24))
def test_a_recording_that_was_thinned_before_is_thinned_by_what_is_left(frames, gap, views) -> None:
    policy = policy_for("7scenes")
    step, thinned = stride_of(frames, policy, views), stride_of(frames, policy, views, gap=gap)
    assert 1 <= thinned <= step
    assert thinned == 1 or abs(thinned * gap - stride_of(frames, policy, 2)) <= gap / 2
    orbit = policy_for("CO3D")
    assert stride_of(frames, orbit, views, gap=gap) == stride_of(frames, orbit, views)


def test_the_gap_is_the_median_of_the_frames_own_numbers() -> None:
    def gap(*names, number=lambda name: None):
        return median_gap([Frame(name, Path(f"{name}.png"), number(name)) for name in names])

    assert gap("frame-000000", "frame-000005", "frame-000010", "frame-000100") == 5
    assert gap("IMG_2_0010", "IMG_2_0020") == 10
    assert gap("a", "b") == gap("7") == gap() == gap("0001", "0001b") == 1
    assert gap("x10", "x20", "x30", number={"x10": 1, "x20": 3, "x30": 5}.get) == 2


def test_a_path_is_cut_from_its_beginning() -> None:
    assert windows(10, PATH, 3, samples=9) == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    assert windows(11, PATH, 3, samples=9)[-1] == (8, 9, 10)  # two of three are new
    assert windows(7, PATH, 3, stride=3) == ((0, 3, 6),)
    assert windows(4, PATH, 3, stride=3) == ((0, 3),)  # a stride that was asked for stands


def test_windows_that_are_too_many_are_thinned_evenly() -> None:
    starts = [window[0] for window in windows(100, PATH, 10, samples=4)]
    assert starts == [0, 30, 60, 90]


def test_a_turn_is_seen_from_different_phases() -> None:
    found = windows(10, Policy("orbit", most=10), 3, samples=5)
    assert found == ((0, 4, 8), (1, 5, 9))


def test_few_frames_are_one_sample() -> None:
    for policy in (PATH, CLOUD, policy_for("co3d")):
        assert windows(5, policy, 20) == ((0, 1, 2, 3, 4),)
        assert windows(1, policy, 20) == ()


def test_a_walk_keeps_as_many_frames_as_the_path_is_long() -> None:
    poses = np.tile(np.eye(4), (101, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 5, 101)  # 5 m: 20 steps of 0.25 m
    assert pose_walk(poses) == tuple(range(0, 101, 5))
    poses[:, 0, 3] /= 10
    assert len(pose_walk(poses)) == 3


def test_a_walk_on_the_spot_counts_the_turn() -> None:
    angles = np.radians(np.arange(0, 91, 5))
    poses = np.tile(np.eye(4), (len(angles), 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angles)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angles), -np.sin(angles)
    assert len(pose_walk(poses)) in (6, 7)  # 90 degrees by 15; rounding decides about the last


def test_a_walk_around_an_object_counts_the_angle_seen_from_it() -> None:
    angles = np.radians(np.arange(0, 181, 4))
    poses = np.tile(np.eye(4), (len(angles), 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angles)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angles), -np.sin(angles)
    poses[:, :3, 3] = np.array([1.0, 2.0, 3.0]) - 50 * poses[:, :3, 2]  # looks at (1, 2, 3)
    kept = pose_walk(poses, around_object=True)
    assert kept == tuple(range(0, len(angles), 4))  # 16 degrees is the first beyond 15
    assert len(pose_walk(poses)) > len(kept)  # by distance every frame is far from the last


def test_cut_takes_any_frames() -> None:
    assert cut([3, 9, 11, 20], 2, 5) == ((3, 9), (11, 20))
    assert cut([3], 2, 5) == ()
