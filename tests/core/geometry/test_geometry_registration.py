"""Robust similarities, and what they say about poses."""

import pytest
import torch

from distill3r_core.geometry.registration import (
    fit_similarity_robust,
    rigid_of,
    rotation_angle,
    scale_from_distances,
)
from distill3r_core.geometry.similarity import apply_similarity


def _turn(degrees: float) -> torch.Tensor:
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 0] = pose[1, 1] = angle.cos()
    pose[0, 1], pose[1, 0] = -angle.sin(), angle.sin()
    return pose


def _similarity() -> torch.Tensor:
    linear = 2.5 * _turn(40.0)[:3, :3]
    return torch.cat([linear, torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)], 1)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_wild_pairs_do_not_move_a_similarity(share):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    target = apply_similarity(_similarity(), source)
    wild = torch.rand(2000, generator=generator) < share
    target[wild] += 5 * torch.randn(int(wild.sum()), 3, generator=generator, dtype=torch.float64)
    found = fit_similarity_robust(source, target, torch.ones(2000, dtype=torch.float64))
    torch.testing.assert_close(found, _similarity(), atol=1e-3, rtol=1e-3)


def test_the_pose_of_a_similarity_is_a_rotation_at_its_offset():
    pose = rigid_of(_similarity())
    torch.testing.assert_close(pose[:3, :3] @ pose[:3, :3].mT, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(pose[:3, 3], _similarity()[:, 3])
    torch.testing.assert_close(pose[3], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64))


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 3.0, 90.0, 179.9])
def test_the_angle_between_poses_is_that_of_their_rotation(degrees):
    other = _turn(degrees) @ _turn(17.0)
    angle = rotation_angle(_turn(17.0), other)
    torch.testing.assert_close(angle.item(), degrees, atol=1e-6, rtol=1e-6)


def test_known_distances_scale_by_least_squares_and_leave_a_residual():
    ours = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]])
    factor, residual = scale_from_distances(ours, 2 * ours.flip(-1) + 7)
    assert factor == pytest.approx(2) and residual == pytest.approx(0, abs=1e-6)
    bent = torch.tensor([[0.0, 0, 0], [2, 0, 0], [6.5, 0, 0]])
    factor, residual = scale_from_distances(ours, bent)
    assert factor == pytest.approx((1 * 2 + 3 * 6.5 + 2 * 4.5) / 14)
    assert 0.1 < residual < 0.4
