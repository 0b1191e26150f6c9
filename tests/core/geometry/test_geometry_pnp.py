"""Poses from the recorded global points, against the cameras they were made with."""

import json
import subprocess
import sys

import numpy as np
import pytest

from distill3r_core.geometry.pnp import pnp_available, pose_from_points

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
