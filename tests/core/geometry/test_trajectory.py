"""Trajectory errors and similarities of camera centers: laws, and cases worked by hand."""

import math

import pytest
import torch

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.camera_alignment import (
    align_centers_procrustes,
    align_centers_ransac,
    spread_ratio,
)
from distill3r_core.geometry.similarity import apply_similarity, scale_of
from distill3r_core.geometry.trajectory import root_mean_square, trajectory_errors


def _cameras(count: int, seed: int = 0) -> torch.Tensor:
    """Cameras with random orientations and centers."""
    generator = torch.Generator().manual_seed(seed)
    turns = torch.randn(count, 3, 3, generator=generator, dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, :3, :3] = torch.matrix_exp(turns - turns.mT)
    poses[:, :3, 3] = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return poses


def _moved(poses: torch.Tensor, scale: float) -> torch.Tensor:
    """The same cameras in another frame and unit."""
    frame = _cameras(1, seed=9)[0]
    moved = frame @ poses
    moved[:, :3, 3] = scale * moved[:, :3, 3]
    return moved


def _collinear(count: int) -> torch.Tensor:
    poses = _cameras(count)
    along = torch.tensor([0.3, -0.2, 0.6], dtype=torch.float64)
    poses[:, :3, 3] = torch.arange(count)[:, None] * along
    return poses


@pytest.mark.parametrize("cameras", [_cameras(8), _cameras(2), _collinear(5), _cameras(1)])
def test_the_truth_in_any_frame_and_unit_has_no_error(cameras):
    errors = trajectory_errors(_moved(cameras, 0.4), cameras)
    assert errors.absolute.max() < 1e-9
    assert (errors.relative_translation < 1e-9).all()
    assert (errors.relative_rotation < 1e-6).all()


@pytest.mark.parametrize("cameras", [_cameras(8), _cameras(2), _collinear(5)])
def test_a_similarity_of_the_prediction_changes_no_error(cameras):
    noisy = cameras @ _cameras(len(cameras), seed=3)
    once, again = (trajectory_errors(poses, cameras) for poses in (noisy, _moved(noisy, 7.0)))
    torch.testing.assert_close(once.absolute, again.absolute)
    torch.testing.assert_close(once.relative_translation, again.relative_translation)
    torch.testing.assert_close(once.relative_rotation, again.relative_rotation)


def test_one_camera_has_a_trajectory_error_of_zero_and_no_motion_to_compare():
    errors = trajectory_errors(_cameras(1, seed=1), _cameras(1))
    assert root_mean_square(errors.absolute) == 0
    assert len(errors.relative_translation) == len(errors.relative_rotation) == 0
    assert math.isnan(root_mean_square(errors.relative_rotation))


def test_one_pose_that_is_not_finite_makes_every_error_nan():
    predicted = _cameras(5)
    predicted[2] = torch.nan
    errors = trajectory_errors(predicted, _cameras(5))
    assert errors.absolute.isnan().all() and errors.absolute.shape == (5,)
    assert errors.relative_rotation.isnan().all() and errors.relative_rotation.shape == (4,)


@pytest.mark.parametrize("cameras", [_cameras(1), _cameras(2), _collinear(5)])
def test_strict_errors_need_centers_that_fix_a_similarity(cameras):
    with pytest.raises(GeometryError):
        trajectory_errors(cameras, cameras, strict=True)


def test_a_turned_camera_shows_in_the_two_motions_that_it_takes_part_in():
    truth = _cameras(6)
    predicted = truth.clone()
    turn = torch.deg2rad(torch.tensor(10.0, dtype=torch.float64))
    predicted[2, :3, :3] @= torch.tensor(
        [[turn.cos(), -turn.sin(), 0], [turn.sin(), turn.cos(), 0], [0, 0, 1]], dtype=torch.float64
    )
    errors = trajectory_errors(predicted, truth)
    expected = torch.tensor([0, 10, 10, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(errors.relative_rotation, expected, atol=1e-6, rtol=0)
    assert root_mean_square(errors.absolute) < 1e-9


@pytest.mark.parametrize("align", [align_centers_ransac, align_centers_procrustes])
def test_similarities_of_centers_recover_a_scale_and_a_frame(align):
    truth = _cameras(7)[:, :3, 3]
    predicted = _moved(_cameras(7), 0.25)[:, :3, 3]
    similarity = align(predicted, truth)
    torch.testing.assert_close(apply_similarity(similarity, predicted), truth)
    assert float(scale_of(similarity)) == pytest.approx(4)


@pytest.mark.parametrize("views", [3, 4, 5])
def test_few_exact_cameras_are_aligned_whatever_their_rounding(views):
    for scale in torch.linspace(0.1, 3.0, 30).tolist():
        truth = _cameras(views)[:, :3, 3]
        predicted = _moved(_cameras(views), scale)[:, :3, 3]
        similarity = align_centers_ransac(predicted, truth)
        torch.testing.assert_close(apply_similarity(similarity, predicted), truth)


def test_cameras_far_off_move_the_similarity_of_ransac_less_than_that_of_all_cameras():
    truth = _cameras(20)[:, :3, 3]
    predicted = truth.clone()
    predicted[4] += 30.0
    assert abs(float(scale_of(align_centers_ransac(predicted, truth))) - 1) < 1e-6
    assert abs(float(scale_of(align_centers_procrustes(predicted, truth))) - 1) > 0.1


def test_the_ratio_of_spreads_does_not_shrink_as_noise_grows():
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert spread_ratio(line, 2.5 * line) == pytest.approx(2.5)
    assert spread_ratio(line, line[:, [1, 0, 2]]) == pytest.approx(1)  # at right angles
    assert spread_ratio(line[:1], line[:1]) == 1
