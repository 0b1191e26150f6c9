"""The pinhole camera that views share, by their point maps."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.cameras import pixel_grid

_ROUNDS = 10  # of re-weighting


def fit_intrinsics(
    points_local: Float[Tensor, "N H W 3"], mask: Bool[Tensor, "N H W"]
) -> Float[Tensor, "N 3 3"]:
    """K of all views, in pixels of the maps: the middle of the image, and for each axis the median
    over the views of the focal length that fits a view's points.

    Args:
        mask: Points that count, finite and in front of their camera.
    """
    height, width = points_local.shape[1:3]
    centers = pixel_grid((height, width), like=points_local).to(points_local)
    K = torch.eye(3, dtype=points_local.dtype, device=points_local.device)
    for axis, side in ((0, width), (1, height)):
        K[axis, 2] = side / 2
        slope = torch.where(mask, points_local[..., axis] / points_local[..., 2], 0.0).flatten(1)
        offset = (centers[..., axis] - side / 2).expand_as(mask).flatten(1)
        weights = mask.flatten(1).to(slope.dtype)
        focal = torch.zeros_like(slope[:, 0])
        for _ in range(_ROUNDS):
            below = (weights * slope.square()).sum(1).clamp(min=1e-12)
            focal = (weights * slope * offset).sum(1) / below
            residual = (offset - focal[:, None] * slope).masked_fill(~mask.flatten(1), torch.nan)
            spread = 2 * residual.abs().nanmedian(dim=1, keepdim=True).values + 1e-3
            weights = mask.flatten(1) / (1 + (residual.nan_to_num() / spread).square())
        known = focal[mask.flatten(1).any(1) & (focal > 0)]
        K[axis, axis] = known.median() if len(known) else max(height, width)
    return K.repeat(len(points_local), 1, 1)
