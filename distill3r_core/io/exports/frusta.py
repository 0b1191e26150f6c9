"""Cameras drawn as pyramids of lines: the center, and the corners of what it sees."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud

# Between the center (0) and the corners: upper left, upper right, lower right, lower left.
FRUSTUM_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))
_SHARE = 0.04  # size of a frustum over the extent of the scene


def frustum(camera: Camera, length: float) -> Float[np.ndarray, "5 3"]:
    """The center and the corners of the image at a depth of `length`, in the world."""
    height, width = camera.size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], np.float64)
    rays = corners @ np.linalg.inv(camera.intrinsics).T
    pose = camera.world_from_cam
    return np.concatenate([np.zeros((1, 3)), length * rays]) @ pose[:3, :3].T + pose[:3, 3]


def frustum_length(cameras: Sequence[Camera], cloud: Cloud) -> float:
    """How deep a frustum is drawn: a small part of what there is to see."""
    centers = np.stack([camera.world_from_cam[:3, 3] for camera in cameras])
    seen = cloud.points if len(cloud) else centers
    spread = np.linalg.norm(np.percentile(seen, 90, axis=0) - np.percentile(seen, 10, axis=0))
    return float(max(_SHARE * spread, 1e-6))
