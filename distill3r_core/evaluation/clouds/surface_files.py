"""Points on the true surface of a scene, from a mesh or a cloud in a PLY file."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import FailedError
from distill3r_core.evaluation.clouds.tsdf import sample_surface
from distill3r_core.io.exports.ply import read_ply_surface

SAMPLES = 1_000_000  # of a mesh


def read_surface_points(path: Path) -> Float[np.ndarray, "M 3"]:
    """Points spread evenly over a mesh; the points themselves where the file has no faces.

    Raises:
        FailedError: It is not a PLY file with points, or they make no surface.
    """
    vertices, faces = read_ply_surface(path)
    count = len(vertices)
    if faces is not None and not ((faces >= 0) & (faces < count)).all():
        raise FailedError(f"{path} is damaged: a face names a vertex that is not there")
    points = vertices if faces is None else sample_surface(vertices[faces], SAMPLES)
    # Against no point, any prediction would have an F-score of 0.
    if not len(points) or not np.isfinite(points).all():
        raise FailedError(f"{path} has no surface: points that are not finite, or no area")
    return points
