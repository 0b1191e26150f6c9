"""Accuracy, completeness and scale: cases worked by hand, and laws."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.metrics import (
    nearest_distances,
    places_of,
    summarize_scales,
    view_errors,
)


@pytest.fixture
def truth():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(12, 15, 3, generator=generator) * 2 + torch.tensor([0.0, 0.0, 1.0])


@pytest.fixture
def mask():
    return torch.rand(12, 15, generator=torch.Generator().manual_seed(2)) > 0.3


def _similarity(seed: int) -> tuple[float, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    rotation = rotation * torch.det(rotation)
    scale = float(torch.rand((), generator=generator)) * 4 + 0.1
    return scale, rotation, torch.randn(3, generator=generator)


def test_nearest_distances_are_those_of_a_case_worked_by_hand():
    source = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0], [1.0, 0.0, 0.0]])
    target = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    expected = torch.tensor([0.0, math.hypot(2, 3), 1.0], dtype=torch.float64)
    torch.testing.assert_close(nearest_distances(source, target), expected)


def test_nearest_distances_agree_with_all_pairs(truth):
    source, target = truth[:6].reshape(-1, 3), truth[6:].reshape(-1, 3)
    expected = torch.cdist(source.double(), target.double()).min(dim=1).values
    torch.testing.assert_close(nearest_distances(source, target), expected)


def test_nearest_distances_to_an_oblique_plane_agree_with_all_pairs(truth):
    """The search turns both clouds into the axes of the target, here with one of no spread."""
    _, rotation, shift = _similarity(seed=4)
    plane = torch.cartesian_prod(*[torch.linspace(-1, 1, 12)] * 2)
    plane = torch.cat([plane, torch.zeros(len(plane), 1)], dim=1) @ rotation + shift
    source = truth.reshape(-1, 3)
    expected = torch.cdist(source.double(), plane.double()).min(dim=1).values
    torch.testing.assert_close(nearest_distances(source, plane), expected)
    assert nearest_distances(plane[::7], plane).max() == 0


COLLAPSED = {
    "one place": lambda spread: torch.ones_like(spread),
    "eight places": lambda spread: 1 + 2e-7 * (spread > 1),
    "within 1e-7": lambda spread: 1 + 1e-7 * (spread - 1),
    "one place and others": lambda spread: torch.where(spread[:, :1] > 0.5, 1.0, spread),
}


@pytest.mark.parametrize("collapse", COLLAPSED.values(), ids=COLLAPSED)
def test_distances_to_points_that_have_collapsed_are_those_of_all_pairs(collapse):
    spread = 3 * torch.rand(900, 3, generator=torch.Generator().manual_seed(5)) - 1
    target = collapse(spread)
    pairs = torch.cdist(
        spread.double(), target.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    torch.testing.assert_close(
        nearest_distances(spread, target), pairs.min(dim=1).values, rtol=1e-12, atol=1e-15
    )
    torch.testing.assert_close(
        nearest_distances(target, spread), pairs.min(dim=0).values, rtol=1e-12, atol=1e-15
    )


def test_points_that_have_collapsed_to_few_places_cost_no_search_of_all_pairs():
    spread = 3 * torch.rand(200_000, 3, generator=torch.Generator().manual_seed(5)) - 1
    begun = time.process_time()
    for name in ("one place", "eight places"):
        assert len(places_of(COLLAPSED[name](spread).double().numpy()).points) <= 8
        nearest_distances(spread, COLLAPSED[name](spread))
    assert time.process_time() - begun < 30  # all pairs: over three minutes


def test_places_are_the_points_in_their_order_where_no_two_are_equal():
    points = np.random.default_rng(0).random((50, 3))
    places = places_of(points)
    assert places.points is points and places.of_point.tolist() == list(range(50))
    twice = places_of(np.concatenate([points, points[:7]]))
    np.testing.assert_array_equal(twice.points[twice.of_point[50:]], points[:7])
    assert sorted(twice.counts.tolist()) == 43 * [1] + 7 * [2]


def test_the_truth_itself_scores_zero_and_scale_one(truth, mask):
    errors = view_errors(truth, truth, mask)
    assert errors.accuracy < 1e-9
    assert errors.completeness < 1e-9
    assert errors.scale == pytest.approx(1, abs=1e-9)
    assert errors.norm_ratio == 1
    assert errors.points == int(mask.sum())


def test_half_the_truth_has_scale_two(truth, mask):
    errors = view_errors(truth * 0.5, truth, mask)
    assert errors.accuracy < 1e-7
    assert errors.scale == pytest.approx(2, abs=1e-6)
    assert errors.norm_ratio == pytest.approx(2, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_similarity_of_the_prediction_changes_only_the_scale(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(8, 9, 3, generator=generator, dtype=torch.float64)
    noisy = truth + 0.05 * torch.randn(8, 9, 3, generator=generator, dtype=torch.float64)
    mask = torch.ones(8, 9, dtype=torch.bool)
    scale, rotation, offset = _similarity(seed + 1)
    before = view_errors(noisy, truth, mask)
    after = view_errors(noisy @ rotation.double().T * scale + offset.double(), truth, mask)
    assert after.accuracy == pytest.approx(before.accuracy, rel=1e-5, abs=1e-7)
    assert after.completeness == pytest.approx(before.completeness, rel=1e-5, abs=1e-7)
    assert after.scale == pytest.approx(before.scale / scale, rel=1e-5)


def test_a_case_worked_by_hand():
    # Truth: a unit square. The prediction: half as wide and half again as high.
    truth = torch.tensor([[[-0.5, -0.5, 2], [0.5, -0.5, 2]], [[-0.5, 0.5, 2], [0.5, 0.5, 2]]])
    stretched = truth * torch.tensor([0.5, 1.5, 1.0])
    errors = view_errors(stretched, truth, torch.ones(2, 2, dtype=torch.bool))
    # Covariances 0.125 and 0.375 over the prediction's variance 0.0625 + 0.5625: s = 0.8.
    assert errors.scale == pytest.approx(0.8, rel=1e-6)
    # Corners then lie at (0.2, 0.6) instead of (0.5, 0.5).
    assert errors.accuracy == pytest.approx(math.hypot(0.3, 0.1), rel=1e-6)
    assert errors.completeness == pytest.approx(math.hypot(0.3, 0.1), rel=1e-6)
    assert errors.norm_ratio == pytest.approx(math.sqrt((0.5 + 4) / (0.0625 + 0.5625 + 4)))


def test_what_lies_outside_the_mask_changes_nothing(truth, mask):
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(5))
    spoiled = torch.where(mask[..., None], noisy, math.nan)
    blank = torch.where(mask[..., None], truth, math.inf)
    assert view_errors(spoiled, blank, mask) == view_errors(noisy, truth, mask)


def test_a_part_of_the_truth_is_accurate_but_not_complete(truth):
    whole, part = truth.reshape(-1, 3), truth[:3].reshape(-1, 3)
    assert nearest_distances(part, whole).max() == 0
    assert np.median(nearest_distances(whole, part).numpy()) > 0.1


@pytest.mark.parametrize("count", [0, 2])
def test_too_few_points_fail_cleanly(truth, count):
    mask = torch.zeros(truth.shape[:2], dtype=torch.bool)
    mask.view(-1)[:count] = True
    with pytest.raises(GeometryError):
        view_errors(truth, truth, mask)


def test_points_on_a_line_fail_cleanly():
    line = torch.linspace(0, 1, 20)[:, None] * torch.tensor([1.0, 2.0, 3.0]) + 1
    with pytest.raises(GeometryError):
        view_errors(line[None], line[None], torch.ones(1, 20, dtype=torch.bool))


def test_a_mirrored_prediction_is_not_taken_for_the_truth(truth, mask):
    mirrored = truth * torch.tensor([-1.0, 1.0, 1.0])
    assert view_errors(mirrored, truth, mask).accuracy > 0.05


def test_scales_are_summarized_as_worked_by_hand():
    summary = summarize_scales([2.0, 0.5, 1.0])
    assert summary.geometric_mean == pytest.approx(1)
    assert summary.arithmetic_mean == pytest.approx(3.5 / 3)
    assert summary.log_spread == pytest.approx(math.log(2) * math.sqrt(2 / 3))
    assert summary.log_error == pytest.approx(math.log(2) * 2 / 3)


def test_a_constant_factor_has_no_spread():
    summary = summarize_scales([3.0, 3.0])
    assert summary.log_spread == 0
    assert summary.log_error == pytest.approx(math.log(3))
