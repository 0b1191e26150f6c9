"""Trajectories: which stamps belong together, poses between them, and what a number means."""

import numpy as np
import pytest

from distill3r_core.data.layouts.recordings.stamps import Trajectory, associate, read_trajectory
from distill3r_core.errors import ImageError


def test_streams_are_paired_nearest_first_and_each_stamp_once():
    # By hand: 0.00 and 0.012 both want 0.01; the nearer takes it.
    assert associate([0.0, 0.012], [0.01]) == {1: 0}
    assert associate([0.0, 1.0], [0.021, 1.019]) == {1: 1}
    assert associate([0.0], [0.02]) == {}


def test_poses_between_two_stamps_are_interpolated():
    turned = np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turned[:3, 3] = (2.0, 0, 0)
    path = Trajectory((1.0, 1.04), np.stack([np.eye(4), turned]))
    middle = path.at(1.02)
    assert middle is not None
    np.testing.assert_allclose(middle[:3, 3], (1, 0, 0))
    half = 0.5**0.5
    np.testing.assert_allclose(middle[:2, :2], [[half, -half], [half, half]], atol=1e-12)
    assert path.at(0.97) is None
    assert path.at(0.99) is not None
    assert path.at(1.2) is None


@pytest.mark.parametrize(
    ("number", "time", "seconds", "numbers"),
    [
        ("3", None, None, 3),
        ("000003", None, None, 3),
        ("5", None, None, None),
        ("3.0", None, 3, 3),
        ("3.25", None, 3.25, None),
        (None, None, None, None),
        ("7", 3.25, 3.25, None),  # the time of its name, whatever its last number is
        (None, 3.0, 3, 3),
        ("1700000000", None, 1_700_000_000, 1_700_000_000),
        ("1700000000125", None, 1_700_000_000.125, None),
    ],
)
def test_counters_have_poses_only_where_all_stamps_are_whole(number, time, seconds, numbers):
    def posed(*stamps):
        poses = {stamp: np.diag([stamp, 1, 1, 1]) for stamp in stamps}
        found = Trajectory.of(poses).of_image(number, time=time)
        return None if found is None else found[0, 0]

    assert posed(3.0, 3.25, 4.0, 1_700_000_000.0, 1_700_000_000.125) == seconds
    assert posed(3.0, 4.0, 1_700_000_000.0) == numbers


@pytest.mark.parametrize("line", ["9" * 6000 + "x 0 0 0 0 0 0 1", "1e300 0 0 0 0 0 0 1"])
def test_a_line_of_a_trajectory_that_cannot_be_is_refused_in_few_words(tmp_path, line) -> None:
    path = tmp_path / "groundtruth.txt"
    path.write_text(f"# stamp tx ty tz qx qy qz qw\n{line}\n")
    with pytest.raises(ImageError, match=r"groundtruth\.txt, line 2") as refused:
        read_trajectory(path)
    assert len(str(refused.value)) < 500
