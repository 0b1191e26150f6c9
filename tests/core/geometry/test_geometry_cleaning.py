"""Which points stay."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distill3r_core.geometry.cleaning import above_percentile, at_most, one_per_voxel, smooth_depth


@given(
    arrays.arrays(np.float32, st.integers(1, 60), elements=st.floats(1, 9, width=32)),
    st.floats(0, 99.9),
)
@settings(max_examples=60, deadline=None)
def test_the_percentile_drops_at_most_its_share_and_nothing_above_what_it_keeps(
    confidence, percent
):
    kept = above_percentile(confidence, percent)
    assert (~kept).sum() <= len(confidence) * percent / 100
    assert kept.any()
    if not kept.all():
        assert confidence[~kept].max() < confidence[kept].min()


def test_without_ties_the_percentile_drops_exactly_its_share():
    confidence = np.random.default_rng(0).permutation(1000).astype(np.float32)
    assert above_percentile(confidence, 10.0).sum() == 900
    assert above_percentile(confidence, 0.0).all()


def test_equal_confidence_drops_nothing():
    assert above_percentile(np.full(10, 2.0), 50.0).all()


def test_only_pixels_beside_a_step_of_depth_are_edges():
    depth = torch.ones(6, 8)
    depth[:, 4:] = 2.0
    smooth = smooth_depth(depth, 0.1)
    assert smooth[:, [0, 1, 2, 5, 6, 7]].all() and not smooth[:, 3:5].any()


def test_a_slope_below_the_tolerance_has_no_edge_and_a_point_behind_the_camera_is_one():
    depth = 1 + 0.01 * torch.arange(8.0).expand(6, 8)
    assert smooth_depth(depth, 0.05).all()
    assert not smooth_depth(-depth, 0.05).any()


def test_each_voxel_keeps_its_most_confident_point():
    points = np.array([[0.1, 0, 0], [0.2, 0, 0], [5.0, 0, 0], [0.3, 0, 0]])
    confidence = np.array([1.0, 3.0, 1.0, 2.0])
    np.testing.assert_array_equal(one_per_voxel(points, confidence, 1.0), [1, 2])


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 3))
@settings(max_examples=25, deadline=None)
def test_no_two_points_of_a_thinned_cloud_share_a_voxel(seed, size):
    points = np.random.default_rng(seed).normal(size=(200, 3))
    kept = points[one_per_voxel(points, np.ones(200), size)]
    cells = np.floor((kept - points.min(axis=0)) / size)
    assert len(np.unique(cells, axis=0)) == len(kept)


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-300])
def test_voxels_of_any_size_part_points_that_differ(size):
    points = np.array([[1000, 0, 0], [0, 1, 0], [1000, 0, 0], [0, 1, 1e-3]], np.float32)
    confidence = np.array([1.0, 1.0, 2.0, 1.0])
    np.testing.assert_array_equal(one_per_voxel(points, confidence, size), [1, 2, 3])


def test_an_empty_cloud_has_no_voxel():
    assert len(one_per_voxel(np.empty((0, 3)), np.empty(0), 1.0)) == 0


def test_the_draw_repeats_with_its_seed_and_keeps_the_order():
    first, again, other = (at_most(1000, 50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (np.diff(first) > 0).all() and not np.array_equal(first, other)
    np.testing.assert_array_equal(at_most(5, 50, seed=0), np.arange(5))
