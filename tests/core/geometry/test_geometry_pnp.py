"""Poses from the recorded global points, against the cameras they were made with."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.pnp import (
    SCENE_BOUND,
    AgreementBound,
    pnp_available,
    pose_from_points,
)

pytestmark = pytest.mark.skipif(not pnp_available(), reason="the extra 'colmap' is not installed")


def test_the_cameras_of_the_recorded_scene_are_found_among_outliers(golden_dir):
    facts = json.loads((golden_dir / "geometry.json").read_text())
    height, width, focal = facts["H"], facts["W"], facts["true_focal"]
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))  # centers at 0
    pixels = np.stack([columns, rows], -1).reshape(-1, 2).astype(float)
    with np.load(golden_dir / "geometry.npz") as golden:
        views = zip(golden["pts3d_global"], golden["conf_global"], golden["true_c2w"], strict=True)
        for points, confidence, truth in views:
            sure = confidence.ravel() > 1.0
            found = pose_from_points(
                points.reshape(-1, 3)[sure].astype(float), pixels[sure], camera, (height, width)
            )
            cosine = (np.trace(found[:3, :3].T @ truth[:3, :3]) - 1) / 2
            assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 0.05
            assert np.abs(found[:3, 3] - truth[:3, 3]).max() < 5e-3  # the scene is 4 deep


SIZE, FOCAL = (112, 154), 120.0
TRUE = np.eye(4)
TRUE[:3, 3] = 0.3, -0.2, 0.1


def pairs_with_errors(seed: int, amount: float, *, wrong: float = 0.0):
    """Pairs of a camera at `TRUE`: points off by so many meters, smoothly, and some anywhere."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform((0, 0), SIZE[::-1], (2000, 2))
    K = np.array([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1]])
    rays = np.c_[(pixels - K[:2, 2]) / FOCAL, np.ones(len(pixels))]
    points = rays * rng.uniform(1.5, 3.0, (len(pixels), 1))
    coarse = amount * rng.normal(size=(3, 7, 9))  # corners of patches of 19x19 pixels
    for axis in range(3):
        places = (pixels[:, ::-1] / np.array(SIZE) * (6, 8)).T
        points[:, axis] += ndimage.map_coordinates(coarse[axis], places, order=1)
    lost = rng.random(len(pixels)) < wrong
    points[lost] = rng.uniform(-3, 3, (lost.sum(), 3))
    return points + TRUE[:3, 3], pixels, K


def errors_of(found: np.ndarray) -> tuple[float, float]:
    """Meters and degrees."""
    cosine = np.clip((np.trace(found[:3, :3]) - 1) / 2, -1, 1)
    return float(np.linalg.norm(found[:3, 3] - TRUE[:3, 3])), float(np.degrees(np.arccos(cosine)))


def test_points_that_are_all_off_give_the_camera_that_fits_most_of_them():
    given = [pairs_with_errors(seed, 0.2) for seed in range(12)]
    narrow, wide = (
        np.median(
            [errors_of(pose_from_points(*pairs, SIZE, bound=bound)) for pairs in given],
            axis=0,
        )
        for bound in (AgreementBound(SCENE_BOUND.pixels), SCENE_BOUND)
    )
    assert (wide < narrow).all()


@pytest.mark.parametrize("wrong", [0.0, 0.3, 0.6])
def test_exact_points_among_wrong_ones_give_the_exact_camera(wrong):
    meters, degrees = errors_of(
        pose_from_points(*pairs_with_errors(1, 0.0, wrong=wrong), SIZE, bound=SCENE_BOUND)
    )
    assert meters < 5e-3 and degrees < 0.1


@pytest.mark.parametrize("count", [0, 2, 4, 6, 999, 1001])
def test_few_points_give_the_camera_or_an_error(count):
    points, pixels, K = pairs_with_errors(2, 0.0)
    given = points[:count], pixels[:count], K, SIZE
    if count < 3:
        with pytest.raises(GeometryError):
            pose_from_points(*given, bound=SCENE_BOUND)
    else:
        assert errors_of(pose_from_points(*given, bound=SCENE_BOUND))[0] < 5e-3


def test_a_majority_that_agrees_keeps_the_bound():
    """A part that is off by a little is no reason to take it in."""
    points, pixels, K = pairs_with_errors(3, 0.0)
    points[::5] += 0.1, 0.0, 0.0  # four or more pixels in the image
    narrow, wide = (
        pose_from_points(points, pixels, K, SIZE, bound=bound)
        for bound in (AgreementBound(SCENE_BOUND.pixels), SCENE_BOUND)
    )
    np.testing.assert_array_equal(wide, narrow)
    assert errors_of(wide)[0] < 5e-3


TERMINATED = """
import os, signal
import numpy as np
from distill3r_core.errors import GeometryError
from distill3r_core.geometry.pnp import pose_from_points

def ours(number, frame):
    raise SystemExit(77)

signal.signal(signal.SIGTERM, ours)
try:
    pose_from_points(np.random.rand(9, 3), np.random.rand(9, 2), np.eye(3), (4, 4))
except GeometryError:
    pass
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_the_library_leaves_a_termination_to_us():
    pytest.importorskip("pycolmap")
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 77, done.stderr
