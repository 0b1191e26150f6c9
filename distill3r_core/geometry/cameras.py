"""Pinhole cameras: pixels, rays and points, in OpenCV axes (x right, y down, z forward).

Pixel centers are at +0.5 unless a caller says otherwise: `center=0.0` is for comparisons with
references that count pixels in whole numbers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.types import ImagePlacement


def pixel_grid(
    size: tuple[int, int], *, center: float = 0.5, like: Tensor | None = None
) -> Float[Tensor, "H W 2"]:
    """The coordinates (u, v) of every pixel's center; dtype and device of `like`."""
    height, width = size
    dtype = None if like is None else like.dtype
    device = None if like is None else like.device
    v = torch.arange(height, dtype=dtype, device=device) + center
    u = torch.arange(width, dtype=dtype, device=device) + center
    return torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)


def rays(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int], *, center: float = 0.5
) -> Float[Tensor, "*batch H W 3"]:
    """The direction of every pixel's ray in its camera's frame, scaled to z = 1.

    Args:
        intrinsics: In pixels of an image of `size`.
        center: Where in its pixel a ray passes.
    """
    return inverse_rays(torch.linalg.inv(intrinsics), size, center=center)


def inverse_rays(
    inverse: Float[Tensor, "*batch 3 3"], size: tuple[int, int], *, center: float = 0.5
) -> Float[Tensor, "*batch H W 3"]:
    """`rays` for who has the inverse of K: to invert on a GPU is to wait for it."""
    height, width = size
    u = torch.arange(width, dtype=inverse.dtype, device=inverse.device) + center
    v = (torch.arange(height, dtype=inverse.dtype, device=inverse.device) + center)[:, None]
    # Plane by plane: many small matrix products take ten times as long, and round by device.
    across, down, offset = inverse[..., None, None].unbind(-3)  # of (x, y, z), (*batch 3 1 1)
    x, y, z = (across * u + (down * v + offset)).unbind(-3)
    return torch.stack([x / z, y / z, torch.ones_like(z)], dim=-1)


def unproject(
    depth: Float[Tensor, "*batch H W"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    *,
    center: float = 0.5,
) -> Float[Tensor, "*batch H W 3"]:
    """The point of every pixel in its camera's frame, in the unit of `depth`.

    Args:
        depth: z in the camera's frame (not the length of the ray).
        intrinsics: In pixels of the depth map.
        center: Where in its pixel a depth was measured.
    """
    height, width = depth.shape[-2:]
    return depth[..., None] * rays(intrinsics, (height, width), center=center)


def project(
    points: Float[Tensor, "*points 3"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*points 2"]:
    """Where points of the camera's frame are seen: (u, v) in the pixels of `intrinsics`.

    Points on the plane of the camera (z = 0) give infinity or NaN; points behind it are mirrored:
    look at z before using them.

    Args:
        points: In the camera's frame.
        intrinsics: Their leading axes are the first axes of `points`; points of the remaining axes
            share one K.
    """
    shared = points.ndim - intrinsics.ndim + 1
    assert shared > 0, "more cameras than points"
    lead = intrinsics.shape[:-2]
    seen = points @ intrinsics.mT.reshape(*lead, *[1] * (shared - 1), 3, 3)
    return seen[..., :2] / seen[..., 2:]


def place_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], placement: ImagePlacement
) -> Float[Tensor, "*batch 3 3"]:
    """K of an image after it was cropped, transposed if so, and resized.

    Args:
        intrinsics: In pixels of the source image, centers at +0.5.
        placement: Where the result's pixels lie in the source. Where it is transposed, the result
            maps the same camera's points to the transposed pixels and has a zero diagonal.
    """
    left, top, right, bottom = placement.box
    columns, rows = right - left, bottom - top
    moved = intrinsics.clone()
    moved[..., 0, :] -= left * intrinsics[..., 2, :]
    moved[..., 1, :] -= top * intrinsics[..., 2, :]
    if placement.transposed:
        moved = moved[..., [1, 0, 2], :]
        columns, rows = rows, columns
    height, width = placement.size
    moved[..., 0, :] *= width / columns
    moved[..., 1, :] *= height / rows
    return moved


def invert_rigid(pose: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The inverse of a rotation and a translation: `cam_from_world` of `world_from_cam`."""
    rotation, translation = pose[..., :3, :3], pose[..., :3, 3:]
    inverse = pose.clone()
    inverse[..., :3, :3] = rotation.mT
    inverse[..., :3, 3:] = -rotation.mT @ translation
    return inverse
