"""Depth errors and alignments: laws, and cases worked by hand."""

import math

import pytest
import torch

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.depth_alignment import (
    align_disparity,
    l1_scale,
    l1_scale_shift,
    least_squares_scale_shift,
    lower_median_ratio,
    median_ratio,
    relative_l1_scale,
    relative_l1_scale_shift,
)
from distill3r_core.geometry.depth_errors import depth_errors, temporal_gradient_error

SCALES = (lower_median_ratio, median_ratio, l1_scale, relative_l1_scale)
AFFINE = (least_squares_scale_shift, relative_l1_scale_shift)


def _depth(pixels: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 1 + 4 * torch.rand(pixels, generator=generator, dtype=torch.float64)


def test_the_truth_has_no_error():
    errors = depth_errors(_depth(), _depth())
    assert errors.abs_rel == errors.sq_rel == errors.rmse == errors.log_rmse == 0
    assert errors.share_within(1.03) == 1


def test_errors_of_two_pixels_are_those_worked_by_hand():
    errors = depth_errors(torch.tensor([1.0, 6.0]), torch.tensor([2.0, 4.0]))
    assert errors.abs_rel == pytest.approx(0.5)
    assert errors.sq_rel == pytest.approx((1 / 2 + 4 / 4) / 2)
    assert errors.rmse == pytest.approx(math.sqrt(5 / 2))
    assert errors.log_rmse == pytest.approx(math.sqrt((math.log(2) ** 2 + math.log(1.5) ** 2) / 2))
    assert errors.share_within(1.6) == 0.5


def test_a_prediction_that_is_not_a_number_fails_its_pixel_and_shows_in_the_means():
    errors = depth_errors(torch.tensor([2.0, math.nan]), torch.tensor([2.0, 2.0]))
    assert errors.share_within(1.25) == 0.5
    assert math.isnan(errors.abs_rel)


def test_errors_of_no_pixels_are_not_numbers():
    errors = depth_errors(torch.zeros(0), torch.zeros(0))
    assert math.isnan(errors.abs_rel) and math.isnan(errors.share_within(1.25))


@pytest.mark.parametrize("align", SCALES)
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scales_recover_a_factor(align, factor):
    assert align(_depth() / factor, _depth()) == pytest.approx(factor, rel=1e-6)


@pytest.mark.parametrize("align", AFFINE)
def test_a_scale_and_a_shift_are_recovered(align):
    assert align((_depth() - 0.7) / 2, _depth()) == pytest.approx((2, 0.7), rel=1e-6)


def test_the_scale_and_shift_of_published_steps_move_by_about_a_tenth():
    scale, shift = l1_scale_shift(_depth() - 0.9, _depth())
    start = lower_median_ratio(_depth() - 0.9, _depth())
    assert abs(scale - start) < 0.2
    assert 0 < shift < 0.2  # 0.9 by least squares


def test_medians_of_an_even_count_differ():
    predicted, truth = torch.ones(4), torch.tensor([1.0, 2.0, 4.0, 5.0])
    assert lower_median_ratio(predicted, truth) == 2
    assert median_ratio(predicted, truth) == pytest.approx(3)


@pytest.mark.parametrize("ratio", [lower_median_ratio, median_ratio])
def test_depth_behind_the_camera_is_not_turned_about(ratio):
    scale = ratio(-_depth(), _depth())
    errors = depth_errors(scale * -_depth(), _depth())
    assert math.isnan(errors.abs_rel) and errors.share_within(1.25) == 0
    mixed = _depth()
    mixed[: len(mixed) // 4] *= -1  # fewer than half
    assert ratio(mixed, _depth()) > 0


def test_exact_alignments_are_no_worse_than_any_near_them():
    predicted, truth = _depth().flip(0), _depth()

    def loss(scale: float, shift: float = 0.0) -> float:
        return float(((scale * predicted + shift - truth).abs() / truth).sum())

    scale = relative_l1_scale(predicted, truth)
    affine = relative_l1_scale_shift(predicted, truth)
    assert loss(scale) <= min(loss(0.999 * scale), loss(1.001 * scale))
    for factor, step in ((0.999, 0), (1.001, 0), (1, 0.001), (1, -0.001), (1.001, -0.001)):
        assert loss(*affine) <= loss(factor * affine[0], affine[1] + step) + 1e-9
    assert loss(*affine) <= loss(scale)


def test_disparity_recovers_its_scale_and_shift_and_stays_within_the_true_depth():
    truth = _depth()
    aligned, (scale, shift) = align_disparity(1 / (2 / truth - 0.1), truth)
    torch.testing.assert_close(aligned, truth)
    assert (scale, shift) == pytest.approx((0.5, 0.05))
    assert float(align_disparity(truth.flip(0), truth)[0].max()) <= float(truth.max()) + 1e-9


@pytest.mark.parametrize("align", [*SCALES, *AFFINE, l1_scale_shift, align_disparity])
def test_no_pixel_is_refused(align):
    with pytest.raises(GeometryError, match="no pixel"):
        align(torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize("align", [*AFFINE, relative_l1_scale, align_disparity])
def test_values_that_are_not_finite_are_refused(align):
    with pytest.raises(GeometryError, match="not finite"):
        align(torch.tensor([1.0, math.nan]), torch.ones(2))


def test_the_temporal_gradient_of_one_frame_is_not_a_number_and_of_the_truth_zero():
    depth = _depth(60).reshape(3, 4, 5)
    mask = torch.ones(3, 4, 5, dtype=torch.bool)
    assert temporal_gradient_error(depth, depth, mask) == 0
    assert temporal_gradient_error(2 * depth, depth, mask) > 0
    assert math.isnan(temporal_gradient_error(depth[:1], depth[:1], mask[:1]))


def test_the_temporal_gradient_leaves_out_pixels_that_one_of_two_frames_lacks():
    depth = _depth(60).reshape(3, 4, 5)
    mask = torch.ones(3, 4, 5, dtype=torch.bool)
    mask[1, 2, 3] = False
    predicted = depth.clone()
    predicted[1, 2, 3] = torch.nan
    assert temporal_gradient_error(predicted, depth, mask) == 0
