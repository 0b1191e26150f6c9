"""Pairs that are matched, and the scale of COLMAP's world."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from distill3r_core.geometry.metric_scale import MIN_POINTS, depth_ratio, scale_of
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.geometry.structure_from_motion import (
    FEW_IMAGES,
    NEIGHBORS,
    SolvedImage,
    SolverCamera,
    _extract,
    _register,
    pairs_of,
    projected,
)
from distill3r_core.prediction import ignore_steps


@given(st.integers(0, 300), st.booleans())
def test_no_pair_comes_twice_and_neighbors_always_come(count, ordered):
    pairs = list(pairs_of(count, ordered=ordered))
    assert len(set(pairs)) == len(pairs)
    assert all(0 <= first < second < count for first, second in pairs)
    near = {(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + NEIGHBORS, count))}
    assert near <= set(pairs)
    if not ordered or count <= FEW_IMAGES:
        assert len(pairs) == count * (count - 1) // 2


def test_a_long_sequence_takes_pairs_in_proportion_to_its_length():
    steps = {second - first for first, second in pairs_of(1000, ordered=True)}
    assert steps == {*range(1, NEIGHBORS + 1), 16, 32, 64, 128, 256, 512}


def test_images_with_equal_cameras_share_one():
    k = np.array([[50.0, 0, 20], [0, 51, 15], [0, 0, 1]])
    assert SolverCamera.of(k, (30, 40)) == SolverCamera.of(k.copy(), (30, 40))
    assert SolverCamera.of(k, (30, 40)).params == (50.0, 51.0, 20.0, 15.0)
    assert SolverCamera((30, 40), focal=60.0).params == (60.0, 20.0, 15.0, 0.0)
    assert SolverCamera((30, 40)).params is None


def test_a_nominal_camera_starts_from_its_values_and_is_not_fixed():
    k = np.array([[50.0, 0, 20], [0, 52, 15], [0, 0, 1]])
    fixed = SolverCamera.of_image((30, 40), intrinsics=k)
    nominal = SolverCamera.of_image((30, 40), intrinsics=k, is_nominal=True)
    assert (fixed.is_fixed, fixed.model) == (True, "PINHOLE")
    assert (nominal.is_fixed, nominal.model) == (False, "SIMPLE_RADIAL")
    assert nominal.params == (51.0, 20.0, 15.0, 0.0)
    assert not SolverCamera((30, 40)).is_fixed


def test_a_large_image_is_reduced_and_its_camera_with_it():
    # 3200 columns become 1600, and 1001 rows the nearest whole number to their half.
    k = np.array([[3000.0, 0, 1600], [0, 3000, 500.5], [0, 0, 1]])
    known = SolverCamera.of_image((1001, 3200), intrinsics=k, focal=1.0)
    assert known.size == (500, 1600)
    assert known.intrinsics == pytest.approx((1500, 3000 * 500 / 1001, 800, 250))
    guessed = SolverCamera.of_image((1001, 3200), focal=3000.0)
    assert (guessed.intrinsics, guessed.focal) == (None, 1500)
    assert SolverCamera.of_image((30, 40), focal=60.0) == SolverCamera((30, 40), focal=60.0)
    assert SolverCamera.of_image((1, 3200)).size == (1, 1600)


@pytest.mark.skipif(not pnp_available(), reason="the extra 'colmap' is not installed")
def test_images_are_numbered_in_their_order_whichever_is_read_first(tmp_path):
    import pycolmap

    # The first is large: of several threads, that of a small one is ready before it.
    sizes = [(1200, 1600), (48, 64), (48, 64), (40, 64)]
    (tmp_path / "images").mkdir()
    draws = np.random.default_rng(0)
    for index, size in enumerate(sizes):
        pixels = draws.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:06d}.png")
    fixed = SolverCamera((48, 64), (60.0, 60.0, 32.0, 24.0))
    cameras = [SolverCamera(sizes[0]), fixed, fixed, SolverCamera(sizes[3], focal=50.0)]
    known = _register(tmp_path, cameras)
    _extract(tmp_path, len(cameras), ignore_steps)
    database = pycolmap.Database.open(tmp_path / "database.db")
    images = database.read_all_images()
    assert [image.name for image in images] == [f"{index:06d}.png" for index in range(4)]
    found = [database.read_camera(image.camera_id) for image in images]
    assert known == {images[1].camera_id} == {images[2].camera_id}
    assert [tuple(one.params) for one in found[1:]] == [
        fixed.intrinsics, fixed.intrinsics, (50.0, 32.0, 20.0, 0.0)
    ]  # fmt: skip
    assert found[0].params[0] == 1.2 * 1600  # where nothing is known
    assert [one.has_prior_focal_length for one in found] == [False, True, True, True]
    assert database.num_frames() == 4 and database.num_rigs() == 3
    database.close()


def solved(pixels, depth):
    return SolvedImage(
        np.eye(4), np.array(pixels, float), np.array(depth, float), np.eye(3), (8, 16)
    )


def test_points_are_projected_with_the_distortion_of_their_camera():
    k = np.array([[100.0, 0, 20], [0, 100, 15], [0, 0, 1]])
    points = np.array([[0.3, 0.4, 1.0], [0.6, 0.8, 2.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(projected(points, k, 0.0), [[50, 55], [50, 55], [20, 15]])
    # r^2 = 0.25: offsets from the center grow by 1 + 0.25 k.
    np.testing.assert_allclose(projected(points, k, 0.4), [[53, 59], [53, 59], [20, 15]])


def test_the_ratio_is_read_where_the_points_are_seen():
    depth = np.zeros((4, 8))
    depth[:, 4:] = 3.0
    # Seen at twice the map's size; the first is outside, the second where nothing is known.
    pixels = [(-1, 2), (2, 2), *[(8.1 + step, 7.9) for step in range(MIN_POINTS - 1)]]
    few = solved(pixels, [1.0, 1.0, *[1.5] * (MIN_POINTS - 1)])
    assert depth_ratio(depth, few) is None
    enough = solved([*pixels, (15.9, 0.1)], [1.0, 1.0, *[1.5] * (MIN_POINTS - 1), 100.0])
    assert depth_ratio(depth, enough) == 2.0


def test_half_of_the_views_cannot_move_the_scale():
    scale = scale_of([2.0, 2.02, 1.98, 9.0, 0.1])
    assert scale is not None
    assert (scale.scale, scale.views) == (2.0, 5)
    assert scale.spread == pytest.approx(1.4826 * 0.02 / 2)
    assert scale_of([]) is None


def test_all_pairs_of_few_images():
    assert list(pairs_of(4, ordered=True)) == list(itertools.combinations(range(4), 2))
