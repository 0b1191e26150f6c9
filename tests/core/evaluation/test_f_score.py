"""F-scores and DTU's official errors: laws, and cases worked by hand."""

import math

import pytest
import torch

from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.clouds.dtu_official import DtuObservation, dtu_errors
from distill3r_core.evaluation.clouds.f_score import f_score


def _cloud(points: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(points, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("grid", ["corner", "origin"])
@pytest.mark.parametrize("voxel", [None, 0.2])
def test_the_truth_is_perfect_on_any_grid(grid, voxel):
    found = f_score(_cloud(), _cloud(), threshold=0.05, voxel=voxel, grid=grid)
    assert found.accuracy == found.completeness == found.overall == 0
    assert found.precision == found.recall == found.f_score == 1


def test_the_score_of_three_points_is_that_worked_by_hand():
    predicted = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    truth = torch.tensor([[0.0, 0, 0], [0, 2, 0], [0, 0, 3]])
    found = f_score(predicted, truth, threshold=0.5)
    assert (found.precision, found.recall) == pytest.approx((1 / 2, 1 / 3))
    assert found.f_score == pytest.approx(2 / 5)
    assert (found.accuracy, found.completeness) == pytest.approx((1 / 2, 5 / 3))


def test_points_of_one_voxel_are_compared_as_their_mean():
    predicted = torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [5.0, 5, 5]])
    truth = torch.tensor([[0.2, 0.1, 0.1], [5.0, 5, 5]])
    found = f_score(predicted, truth, threshold=1e-3, voxel=1.0, grid="origin")
    assert found.f_score == 1
    assert f_score(predicted, truth, threshold=1e-3).f_score < 1


def test_cropping_leaves_out_what_lies_outside_the_true_box():
    predicted = torch.cat([_cloud(), _cloud() + 10])
    assert f_score(predicted, _cloud(), threshold=0.1).precision == 0.5
    assert f_score(predicted, _cloud(), threshold=0.1, crop_margin=0.1).precision == 1


def test_an_empty_prediction_is_infinitely_far_and_one_that_is_not_finite_refused():
    found = f_score(torch.zeros(0, 3), _cloud(), threshold=0.1)
    assert math.isinf(found.overall) and found.f_score == 0
    with pytest.raises(GeometryError, match="not finite"):
        f_score(_cloud() * math.nan, _cloud(), threshold=0.1)


def _observation() -> DtuObservation:
    return DtuObservation(
        box=torch.tensor([[0.0, 0, 0], [40, 40, 40]]),
        resolution=10.0,
        mask=torch.ones(5, 5, 5, dtype=torch.bool),
        plane=torch.tensor([0.0, 0, 1, 0]),
    )


def _scan() -> torch.Tensor:
    """A grid with a spacing of 4 mm inside the box."""
    line = torch.arange(1.0, 40, 4)
    return torch.cartesian_prod(line, line, line)


def test_a_scan_against_itself_has_no_error_in_the_official_measure():
    found = dtu_errors(_scan(), _scan(), _observation())
    assert found.accuracy == found.completeness == found.overall == 0


def test_the_official_measure_leaves_out_outliers_and_what_is_not_observed():
    shifted = _scan() + torch.tensor([0, 0, 0.5])
    outliers = torch.full((200, 3), 75.0) + torch.arange(200)[:, None] / 10
    found = dtu_errors(torch.cat([shifted, outliers]), _scan(), _observation())
    assert found.accuracy == pytest.approx(0.5)
    assert found.completeness == pytest.approx(0.5)


def test_a_prediction_far_from_the_scan_has_no_distances_to_average():
    found = dtu_errors(_scan() + 500, _scan(), _observation())
    assert math.isnan(found.accuracy) and math.isnan(found.completeness)
