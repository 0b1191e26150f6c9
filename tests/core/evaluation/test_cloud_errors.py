"""Errors, ICP and alignments of clouds: laws, and what they refuse."""

import math
import time

import numpy as np
import pytest
import torch

from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.clouds.cloud_alignments import (
    align_by_confidence,
    align_by_medians,
    align_local_to_global,
    center_crop,
    confident_pixels,
)
from distill3r_core.evaluation.clouds.cloud_errors import cloud_errors
from distill3r_core.evaluation.clouds.icp import icp

VIEWS, HEIGHT, WIDTH = 2, 6, 8
EVERY = torch.ones(VIEWS, HEIGHT, WIDTH, dtype=torch.bool)


def _points(views: int = VIEWS, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(views, HEIGHT, WIDTH, 3, generator=generator, dtype=torch.float64)


def _plane() -> torch.Tensor:
    """A grid in the plane z = 0 with a spacing of 1."""
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)


def _turn(degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    return torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("repeated", [1, 5])  # several points at one place take another way
def test_normals_are_the_same_however_many_places_are_taken_at_once(monkeypatch, repeated):
    predicted, truth = (_points(seed=seed).reshape(-1, 3).repeat(repeated, 1) for seed in (1, 2))
    whole = cloud_errors(predicted, truth)
    monkeypatch.setattr("distill3r_core.evaluation.clouds.cloud_errors._AT_ONCE", 7)
    parts = cloud_errors(predicted, truth)
    for name in ("accuracy", "completeness", "normals_accuracy", "normals_completeness"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name


def test_the_truth_against_itself_is_perfect():
    cloud = _points().reshape(-1, 3)
    errors = cloud_errors(cloud, cloud)
    assert errors.accuracy.max() == errors.completeness.max() == 0
    torch.testing.assert_close(errors.normals_accuracy, torch.ones(len(cloud)).double())


def test_a_raised_plane_is_off_by_its_height_with_the_same_normals():
    errors = cloud_errors(_plane() + torch.tensor([0, 0, 0.25]), _plane())
    assert float(errors.accuracy.mean()) == pytest.approx(0.25)
    assert float(errors.completeness.mean()) == pytest.approx(0.25)
    assert float(errors.normals_completeness.min()) == pytest.approx(1)


def test_a_turned_plane_has_the_cosine_of_its_turn_as_normal_consistency():
    errors = cloud_errors(_plane().double() @ _turn(60).T, _plane())
    assert float(errors.normals_accuracy.mean()) == pytest.approx(0.5)


def test_normals_of_points_at_one_place_are_of_the_thirty_nearest_points_not_places():
    random = np.random.default_rng(0)
    few = random.random((60, 3))
    cloud = np.repeat(few, random.integers(1, 9, len(few)), axis=0)
    # Against a plane, the consistency is the third coordinate of a normal.
    found = cloud_errors(torch.from_numpy(cloud), _plane().double()).normals_accuracy.numpy()
    distance = np.linalg.norm(cloud[:, None] - cloud, axis=2)
    for index, order in enumerate(np.argsort(distance, axis=1, kind="stable")):
        vectors = np.linalg.eigh(np.cov(cloud[order[:30]].T)).eigenvectors
        assert found[index] == pytest.approx(abs(vectors[2, 0]), abs=1e-6)


def test_clouds_at_one_place_cost_no_search_of_all_pairs():
    spread = torch.rand(60_000, 3, generator=torch.Generator().manual_seed(0))
    begun = time.process_time()
    errors = cloud_errors(torch.ones_like(spread), spread)
    assert time.process_time() - begun < 9  # all pairs: over 15
    assert errors.accuracy.unique().numel() == 1
    assert errors.completeness.min() == errors.accuracy[0]


def test_clouds_that_are_too_small_or_not_finite_are_refused():
    with pytest.raises(GeometryError, match="at least 30"):
        cloud_errors(_plane()[:29], _plane())
    broken = _plane()
    broken[3, 1] = math.nan
    with pytest.raises(GeometryError, match="not finite"):
        cloud_errors(broken, _plane())


def test_icp_leaves_a_cloud_on_its_truth_where_it_is():
    cloud = _points().reshape(-1, 3)
    result = icp(cloud, cloud, threshold=0.1)
    torch.testing.assert_close(result.target_from_source, torch.eye(4, dtype=torch.float64))
    assert result.fitness == 1 and result.inlier_rmse == pytest.approx(0, abs=1e-12)


def test_icp_brings_a_slightly_moved_cloud_back():
    cloud = _points().reshape(-1, 3)
    result = icp(cloud @ _turn(1).T + 0.01, cloud, threshold=1.0)
    torch.testing.assert_close(result.points, cloud, atol=1e-3, rtol=0)
    torch.testing.assert_close(result.target_from_source[:3, :3], _turn(-1), atol=1e-3, rtol=0)


def test_icp_moves_nothing_where_no_points_are_near():
    cloud = _points().reshape(-1, 3)
    result = icp(cloud + 100, cloud, threshold=0.1)
    assert result.fitness == 0 and result.inlier_rmse == 0
    torch.testing.assert_close(result.points, cloud + 100)


@pytest.mark.parametrize("views", [1, 2])
def test_medians_recover_a_prediction_in_another_unit(views):
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = _turn(40), torch.tensor([1.0, -2.0, 3.0])
    truth = _points(views)
    in_camera = (truth - pose[:3, 3]) @ pose[:3, :3]
    found = align_by_medians(0.3 * in_camera, truth, EVERY[:views], pose)
    torch.testing.assert_close(found.points, truth)
    assert found.true_scale / found.predicted_scale == pytest.approx(1 / 0.3)


def test_medians_of_no_pixel_are_refused():
    with pytest.raises(GeometryError, match="no pixel"):
        align_by_medians(_points(), _points(), ~EVERY, torch.eye(4))


def test_values_outside_the_mask_change_no_median():
    mask = EVERY.clone()
    mask[0, 2] = False
    broken = _points()
    broken[0, 2] = math.nan
    eye = torch.eye(4)
    once, again = (align_by_medians(maps, _points(), mask, eye) for maps in (_points(), broken))
    torch.testing.assert_close(once.points[mask], again.points[mask])


def test_confident_pixels_are_counted_in_each_view_by_itself():
    confidence = torch.arange(100.0).reshape(1, 10, 10)
    both = torch.cat([confidence, 1000 * confidence])
    assert confident_pixels(both, 0.85).sum((1, 2)).tolist() == [15, 15]


@pytest.mark.parametrize("views", [1, 2])
def test_confident_alignments_recover_the_truth_in_any_frame(views):
    truth = _points(views)
    confident = EVERY[:views].clone()
    confident[:, 3:] = False
    wild = 0.2 * truth @ _turn(70).T + 5
    wild[~confident] += 10  # pixels without confidence do not count
    local = align_local_to_global(truth @ _turn(20).T, wild, EVERY[:views], confident)
    aligned = align_by_confidence(local, truth, EVERY[:views], confident)
    torch.testing.assert_close(aligned, truth)


def test_a_local_map_on_a_line_stays_as_it_is():
    line = torch.zeros_like(_points())
    line[..., 0] = torch.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    torch.testing.assert_close(align_local_to_global(line, _points(), EVERY, EVERY), line)
    with pytest.raises(GeometryError):
        align_by_confidence(line, _points(), EVERY, EVERY)


def test_a_center_crop_keeps_the_middle():
    assert center_crop(_points(), 2).shape == (VIEWS, 4, 4, 3)
    torch.testing.assert_close(center_crop(_points(), 2)[0, 0, 0], _points()[0, 1, 2])


def test_a_center_crop_keeps_every_row_and_column_of_a_smaller_view():
    rows = torch.arange(9.0)[None, :, None].expand(1, 9, 5)
    for half in (5, 8, 20):  # an index below 0 would count from the end
        assert torch.equal(center_crop(rows, half), rows)
    assert center_crop(rows, 3)[0, :, 0].tolist() == [1, 2, 3, 4, 5, 6]
