"""Remove the unknown scale of a reconstruction before two of them are compared."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SMALLEST = 1e-8  # size that nothing is divided below


def normalize_scale(
    points: Float[Tensor, "*batch N H W 3"],
    valid_mask: Bool[Tensor, "*batch N H W"],
    *,
    per_view: bool,
) -> Float[Tensor, "*batch N H W 3"]:
    """Divide points by their mean distance to the origin of their frame.

    Args:
        points: In any unit. Anything, NaN included, outside the mask.
        valid_mask: The points that count towards the mean.
        per_view: One scale per view, for local points. Otherwise one per sample, which keeps the
            relative sizes of the views, as global points need (arXiv:2501.13928, "z").

    Returns:
        The scaled points, zero outside the mask.
    """
    # where(), not a product: NaN * 0 is NaN, and so is its gradient.
    points = torch.where(valid_mask[..., None], points, 0.0)
    scale = mean_distance(points, valid_mask, per_view=per_view)
    return points / scale.clamp(min=SMALLEST)[..., None, None, None]


def mean_distance(
    points: Float[Tensor, "*batch N H W 3"],
    valid_mask: Bool[Tensor, "*batch N H W"],
    *,
    per_view: bool,
) -> Float[Tensor, "*batch _N"]:
    """Mean distance of points to the origin of their frame, by which `normalize_scale` divides.

    Args:
        points: In any unit. Anything, NaN included, outside the mask.
        valid_mask: The points that count.
        per_view: One distance per view; otherwise one per sample, on an axis of length 1.

    Returns:
        In the unit of the points; 0 where no point counts.
    """
    points = torch.where(valid_mask[..., None], points, 0.0)
    dims = (-2, -1) if per_view else (-3, -2, -1)
    count = valid_mask.sum(dims, keepdim=True).clamp(min=1)
    return (points.norm(dim=-1).sum(dims, keepdim=True) / count)[..., 0, 0]


def masked_median(
    values: Float[Tensor, "*batch M"], mask: Bool[Tensor, "*batch M"]
) -> Float[Tensor, "*batch"]:
    """The median of the values that count; of an even number, the mean of the middle two.

    Args:
        values: Anything outside the mask; finite inside.

    Returns:
        One median per row, NaN where no value counts.
    """
    assert values.shape[-1] > 0
    ordered = torch.where(mask, values, torch.inf).sort(dim=-1).values  # those that count first
    count = mask.sum(-1, keepdim=True)
    below = ordered.gather(-1, ((count - 1) // 2).clamp(min=0))
    above = ordered.gather(-1, (count // 2).clamp(max=values.shape[-1] - 1))
    return torch.where(count > 0, (below + above) / 2, torch.nan)[..., 0]
