"""From the pixels of a fitted image to those of the full-size one, and back."""

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.types import ImagePlacement


def map_intrinsics(camera: Pinhole, placement: ImagePlacement) -> Float[np.ndarray, "3 3"]:
    """K in pixels of a view's maps; a squashed image has two focal lengths."""
    return place_intrinsics(torch.from_numpy(camera.intrinsics), placement).numpy()


def full_size_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], placement: ImagePlacement
) -> Float[np.ndarray, "3 3"]:
    """K of the full-size image from that of a view's maps: the inverse of `map_intrinsics`."""
    # Resizing and cropping multiply K from the left by one matrix, which they make of the identity.
    eye = torch.eye(3, dtype=torch.float64)
    return np.linalg.solve(place_intrinsics(eye, placement).numpy(), intrinsics)


def full_size_pixels(placement: ImagePlacement) -> Float[np.ndarray, "H W 2"]:
    """Where the centers of a fitted image's pixels lie in the full-size one, (u, v)."""
    left, top, right, bottom = placement.box
    height, width = placement.size
    u = left + (np.arange(width) + 0.5) * (right - left) / width
    v = top + (np.arange(height) + 0.5) * (bottom - top) / height
    return np.stack(np.meshgrid(u, v), axis=-1)


def kept_aspect(placement: ImagePlacement) -> float:
    """Width over height of the part of the image that is kept, before it was squashed."""
    left, top, right, bottom = placement.box
    return (right - left) / (bottom - top)
