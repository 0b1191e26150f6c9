"""Pose errors by hand and by law."""

import math

import pytest
import torch

from distill3r_core.geometry.pose_errors import (
    area_under_curve,
    pair_errors,
    pairs_without_baseline,
    share_below,
)


def _pose(x: float = 0.0, y: float = 0.0, degrees: float = 0.0) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    pose[:2, 3] = torch.tensor([x, y])
    return pose


@pytest.mark.parametrize(
    ("error", "bins", "histc", "integral"),
    [
        (5.0, 0.8333, 0.8387, 0.8333),
        (4.999, 0.8667, 0.8387, 0.8334),
        (29.5, 0.0333, 0.0323, 0.0167),
        (30.5, 0.0, 0.0, 0.0),
        (math.nan, 0.0, 0.0, 0.0),
    ],
)
def test_the_area_is_that_of_a_case_worked_by_hand(error, bins, histc, integral):
    errors = torch.full((4,), error, dtype=torch.float64)
    assert area_under_curve(errors, 30) == pytest.approx(bins, abs=1e-4)
    assert area_under_curve(errors, 30, form="histc") == pytest.approx(histc, abs=1e-4)
    assert area_under_curve(errors, 30, form="integral") == pytest.approx(integral, abs=1e-4)


def test_a_rotation_and_a_direction_are_those_of_a_case_worked_by_hand():
    truth = torch.stack([_pose(), _pose(x=1.0)])
    predicted = torch.stack([_pose(), _pose(x=1.0, y=1.0, degrees=30.0)])
    found = pair_errors(predicted, truth)
    assert found.rotation.tolist() == pytest.approx([30.0])
    assert found.translation.tolist() == pytest.approx([45.0])
    assert found.largest.tolist() == pytest.approx([45.0])


@pytest.mark.parametrize("form", ["vggt", "fast3r", "pi3", "da3"])
def test_cameras_at_one_place_far_from_the_origin_are_counted_and_fail_in_spite_of_rounding(form):
    generator = torch.Generator().manual_seed(1)
    turns = torch.randn(5, 3, 3, generator=generator, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    poses[:, :3, :3] = torch.matrix_exp(0.3 * (turns - turns.mT))
    poses[:, :3, 3] = 1000 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    assert pairs_without_baseline(poses, form=form) == 0
    poses[3] = poses[1]
    assert pairs_without_baseline(poses, form=form) == 1
    found = pair_errors(poses, poses, form=form).translation
    assert (found == 90).sum() == 1 and (found < 1e-4).sum() == len(found) - 1
    assert pairs_without_baseline(poses[:1], form=form) == 0


def test_a_true_baseline_of_zero_is_a_failed_pair():
    truth = torch.stack([_pose(), _pose(degrees=10.0)])
    found = pair_errors(torch.stack([_pose(), _pose(x=1.0, degrees=10.0)]), truth)
    assert found.translation.tolist() == pytest.approx([90.0])
    assert share_below(found.translation, 90.0) == 0.0


@pytest.mark.parametrize("form", ["vggt", "pi3"])
def test_another_frame_and_unit_change_no_error(form):
    generator = torch.Generator().manual_seed(1)
    truth = torch.stack([_pose(*torch.rand(3, generator=generator).tolist()) for _ in range(5)])
    noisy = truth.clone()
    noisy[:, :3, 3] += 0.1 * torch.rand(5, 3, generator=generator)
    moved = _pose(x=3.0, degrees=77.0) @ noisy
    moved[:, :3, 3] *= 7.0
    one, other = (pair_errors(poses, truth, form=form) for poses in (noisy, moved))
    torch.testing.assert_close(one.rotation, other.rotation, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.translation, other.translation, atol=1e-5, rtol=0)


def test_a_pose_that_is_not_finite_fails_all_its_pairs_and_no_other():
    poses = torch.stack([_pose(x=float(index), y=index**2) for index in range(4)])
    broken = poses.clone()
    broken[3] = math.nan
    found = pair_errors(broken, poses)
    assert share_below(found.largest, 1.0) == 3 / 6
