"""Similarities of point sets with gradients, for training: batched, and never raising."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.similarity import LINE_RATIO, PLACE_RATIO

_LEAST_POINTS = 3
# Sums of two singular values, as a share of the largest, that the gradient of a rotation is not
# divided below: points near a line hardly fix the turn about it.
_LEAST_SUM = 1e-4


@dataclass(frozen=True, eq=False)
class FittedSimilarities:
    """Similarities x -> s R x + t that carry point sets onto each other, float64.

    Args:
        determined: False where points do not fix a similarity (fewer than three, on a line, at one
            place, not finite); there it is the identity, without a gradient.
    """

    rotation: Float[Tensor, "*batch 3 3"]
    scale: Float[Tensor, "*batch"]
    offset: Float[Tensor, "*batch 3"]
    determined: Bool[Tensor, "*batch"]


class _NearestRotation(torch.autograd.Function):
    """The rotation R that maximizes tr(R^T M).

    Its derivative is that of the polar decomposition M = R P: with P = V diag(p) V^T it has only
    the quotients 1 / (p_i + p_j), where that of the singular vectors has 1 / (p_i - p_j), which
    grows without bound for points that spread alike in two directions.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
        u, sizes, v_t = torch.linalg.svd(matrix)
        sign = torch.ones_like(sizes)
        sign[..., 2] = torch.det(u @ v_t).sign()
        rotation = (u * sign[..., None, :]) @ v_t
        ctx.save_for_backward(rotation, sizes * sign, v_t)
        return rotation

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rotation, sizes, v_t = ctx.saved_tensors
        inner = v_t @ rotation.mT @ gradients[0] @ v_t.mT
        sums = sizes[..., :, None] + sizes[..., None, :]
        sums = torch.maximum(sums, (_LEAST_SUM * sizes[..., :1]).unsqueeze(-1).clamp(min=1e-300))
        return rotation @ v_t.mT @ ((inner - inner.mT) / sums) @ v_t


def fit_with_gradient(
    source: Float[Tensor, "*batch M 3"],
    target: Float[Tensor, "*batch M 3"],
    mask: Bool[Tensor, "*batch M"],
) -> FittedSimilarities:
    """The similarities that minimize the sums of |s R x + t - y|^2 (Umeyama, PAMI 1991).

    Args:
        source: x, in any unit. Anything, NaN included, outside the mask.
        target: y, the same.
        mask: The pairs that count.
    """
    x, y = (torch.where(mask[..., None], points, 0.0).double() for points in (source, target))
    count = mask.sum(-1)
    share = (mask / count.clamp(min=1)[..., None])[..., None].double()
    means = [(share * points).sum(-2) for points in (x, y)]
    x, y = (points - mean[..., None, :] for points, mean in zip((x, y), means, strict=True))
    covariance = (share * y).mT @ x
    variances = [(share * points.square()).sum((-2, -1)) for points in (x, y)]
    with torch.no_grad():
        determined = _determined(covariance, variances, means) & (count >= _LEAST_POINTS)
    eye = torch.eye(3, dtype=torch.float64, device=x.device)
    # Chosen before the decomposition: of NaN there is none, and its gradient would spread.
    covariance = torch.where(determined[..., None, None], covariance, eye)
    variance = torch.where(determined, variances[0], 3.0)
    rotation = _NearestRotation.apply(covariance)
    assert isinstance(rotation, Tensor)
    scale = (rotation * covariance).sum((-2, -1)) / variance
    offset = means[1] - scale[..., None] * (rotation @ means[0][..., None])[..., 0]
    offset = torch.where(determined[..., None], offset, 0.0)
    return FittedSimilarities(rotation, scale, offset, determined)


def _determined(
    covariance: Tensor, variances: list[Tensor], means: list[Tensor]
) -> Bool[Tensor, "*batch"]:
    """Whether moments fix a similarity, by the measures of `fit_similarity`."""
    found = covariance.isfinite().all(-1).all(-1)
    for variance, mean in zip(variances, means, strict=True):
        found &= variance.sqrt() > PLACE_RATIO * mean.norm(dim=-1)
        found &= variance > 0
    eye = torch.eye(3, dtype=covariance.dtype, device=covariance.device)
    sizes = torch.linalg.svdvals(torch.where(found[..., None, None], covariance, eye))
    return found & (sizes[..., 1] > LINE_RATIO * sizes[..., 0])
