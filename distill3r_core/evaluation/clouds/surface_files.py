"""Points on the true surface of a scene, from a mesh or a cloud in a PLY file."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.evaluation.clouds.tsdf import sample_surface
from distill3r_core.io.exports.ply import read_ply_surface

SAMPLES = 1_000_000  # of a mesh


def read_surface_points(path: Path) -> Float[np.ndarray, "M 3"]:
    """Points spread evenly over a mesh; the points themselves where the file has no faces.

    Raises:
        FailedError: It is not a PLY file with points.
    """
    vertices, faces = read_ply_surface(path)
    return vertices if faces is None else sample_surface(vertices[faces], SAMPLES)
