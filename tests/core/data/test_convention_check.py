"""The check of conventions: few false alarms on good data, and most mistakes found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from posed_rooms import SIZE, room_depth, write_room

from distill3r_core.data.conventions.check import ConventionVerdict, check_conventions
from distill3r_core.data.conventions.check_data import DataCheck, check_notes
from distill3r_core.data.conventions.intrinsics import implied_size
from distill3r_core.data.conventions.readings import Conventions, with_conventions
from distill3r_core.data.layouts import Frame, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.geometry.depth_agreement import PosedDepth, depth_agreement
from distill3r_core.scenes.paths import pinhole

WINDOWS = (4, 6, 8, 12, 16, 20)
STEPS = (1, 2, 3, 5, 8, 10)


def test_the_note_agrees_with_its_numbers():
    one = ConventionVerdict(0.9, 1, (7.2, 7.2))
    (note,) = check_notes("rooms", DataCheck({"one": one}))
    assert note.endswith("(median of 1 pair, turned by 7 degrees)")
    two = ConventionVerdict(0.9, 2, (3.1, 9.4))
    (note,) = check_notes("rooms", DataCheck({"one": one, "two": two}))
    assert note.endswith("(median of 3 pairs, turned by 3 to 9 degrees)")
    assert check_notes("rooms", DataCheck()) == []


def _frames(root: Path) -> list[tuple[Frame, ...]]:
    return [scene.frames for found in scan(root) for scene in list_dataset(found).scenes]


def _false_alarms(windows: list[tuple[Frame, ...]]) -> int:
    verdicts = [verdict for frames in windows if (verdict := check_conventions(frames))]
    assert len(verdicts) >= 0.9 * len(windows)
    return sum(verdict.contradicts for verdict in verdicts)


def _kitchen_windows(data_dir: Path, *, every: int) -> list[tuple[Frame, ...]]:
    """Windows of 4 to 20 frames that are 1 to 10 kept frames apart."""
    (frames,) = _frames(data_dir / "7scenes_kitchen")
    windows = []
    for step in STEPS:
        spaced = frames[::step]
        for count in WINDOWS:
            starts = range(0, len(spaced) - count + 1, max(1, (len(spaced) - count) // 6))
            windows += [spaced[start : start + count] for start in starts]
    return windows[::every]


@pytest.mark.slow
def test_one_false_alarm_in_fifty_at_most(data_dir, tmp_path) -> None:
    kitchen = _kitchen_windows(data_dir, every=1)
    rooms = _room_windows(tmp_path, seeds=10)
    alarms = _false_alarms(kitchen), _false_alarms(rooms)
    print(f"kitchen: {alarms[0]} of {len(kitchen)}; rooms: {alarms[1]} of {len(rooms)}")
    assert sum(alarms) <= (len(kitchen) + len(rooms)) / 50


def test_no_false_alarm_in_a_part_of_the_good_data(data_dir, tmp_path) -> None:
    assert _false_alarms(_kitchen_windows(data_dir, every=20)) == 0
    assert _false_alarms(_room_windows(tmp_path, seeds=2)) == 0


def _room_windows(folder: Path, *, seeds: int) -> list[tuple[Frame, ...]]:
    """Whole rooms of 24 views, and windows of them."""
    for seed in range(seeds):
        write_room(folder / f"room-{seed:02d}", seed, views=24)
    rooms = _frames(folder)
    return [
        *rooms,
        *(room[::step][:count] for room in rooms for step in (1, 2, 4) for count in (4, 6, 12)),
    ]


def test_neighboring_candidates_are_told_apart(tmp_path) -> None:
    (frames,) = _frames(write_room(tmp_path / "room", 5))
    for scale in (250.0, 256.0, 4000.0, 5000.0):
        # Depth of `scale` units in a meter is read as millimeters.
        wrong = tuple(replace(frame, pose=_moved(frame, 1000 / scale)) for frame in frames)
        verdict = check_conventions(wrong)
        assert verdict is not None
        assert verdict.remedy == Conventions(depth_scale=scale)


def test_an_unusual_depth_unit_is_estimated(tmp_path) -> None:
    (frames,) = _frames(write_room(tmp_path / "room", 5))
    wrong = tuple(replace(frame, pose=_moved(frame, 1000 / 30000)) for frame in frames)
    verdict = check_conventions(wrong)
    assert verdict is not None
    assert verdict.remedy is not None
    assert verdict.remedy.depth_scale == pytest.approx(30000, rel=0.04)


def test_a_single_frame_and_frames_without_depth_are_not_checked(tmp_path) -> None:
    (frames,) = _frames(write_room(tmp_path / "room", 5))
    assert check_conventions(frames[:1]) is None
    assert check_conventions([replace(frame, depth=None) for frame in frames]) is None


def test_conventions_of_a_frame_are_the_starting_point(tmp_path) -> None:
    (frames,) = _frames(write_room(tmp_path / "room", 5))
    verdict = check_conventions(with_conventions(frames, Conventions(pose_convention="w2c")))
    assert verdict is not None
    assert verdict.remedy == Conventions(pose_convention="c2w")
    assert verdict.remedy.options == "--pose-convention c2w"


def test_a_view_agrees_with_itself_and_not_with_itself_twice_as_far() -> None:
    depth, poses = room_depth(2, 12, 69.0)
    view = PosedDepth(depth[0].numpy(), pinhole(SIZE).numpy(), poses[0].numpy())
    far = replace(view, depth=2 * view.depth)
    same = depth_agreement(view, view)
    assert same.agreement == 1
    assert same.overlap == 1
    assert depth_agreement(view, far).agreement == 0


def test_agreement_by_hand() -> None:
    """A wall 2 m away; the second camera stands 1 m nearer, and half of what it sees is right."""
    K = np.array([[64.0, 0, 32], [0, 64, 32], [0, 0, 1]])
    near = np.eye(4)
    near[2, 3] = 1
    seen = np.ones((64, 64))
    seen[:, :32] = 1.2
    found = depth_agreement(
        PosedDepth(np.full((64, 64), 2.0), K, np.eye(4)), PosedDepth(seen, K, near)
    )
    # From half the distance the middle quarter of the points is seen.
    assert found.overlap == pytest.approx(0.25, abs=0.02)
    assert found.agreement == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("center", "image", "size"),
    [
        ((320, 240), (240, 320), (480, 640)),
        ((647.75, 483.5), (480, 640), (968, 1296)),
        ((646.8, 462), (140, 196), (924, 1294)),
        ((0.5, 0.5), (480, 640), (1, 1)),
        ((318, 241), (480, 640), None),
        ((-5, 240), (480, 640), None),
    ],
)
def test_the_size_that_a_principal_point_implies(center, image, size) -> None:
    K = np.array([[500.0, 0, center[0]], [0, 500, center[1]], [0, 0, 1]])
    assert implied_size(K, image) == size


def _moved(frame: Frame, factor: float) -> np.ndarray:
    """The pose with its translation in another unit."""
    assert isinstance(frame.pose, Path)
    pose = np.loadtxt(frame.pose)
    pose[:3, 3] *= factor
    return pose
