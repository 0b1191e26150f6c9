"""Similarities `[sR | t]`: fitting, applying and composing them.

A similarity is a (3, 4) matrix; it stands for x -> s R x + t with s > 0 and det R = +1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError

# Below this ratio of the second to the first singular value of the cross-covariance, points lie on
# a line to float32's precision and the turn about it is free.
LINE_RATIO = 1e-10
# Points that spread by no more than this share of their distance to the origin are at one place to
# float32's precision; the cross-covariance is then rounding, with any ratio.
PLACE_RATIO = 1e-7


def fit_similarity(
    source: Float[Tensor, "*batch M 3"],
    target: Float[Tensor, "*batch M 3"],
    weights: Float[Tensor, "*batch M"] | None = None,
) -> Float[Tensor, "*batch 3 4"]:
    """The similarity that minimises the sum of w |s R x + t - y|^2 (Umeyama, PAMI 1991).

    Args:
        source: x, finite.
        target: y, finite, in any frame and unit.
        weights: At least 0; None: all 1. A weight of 0 leaves the pair out.

    Returns:
        `[sR | t]`, computed in float64, in the dtype of `source`.

    Raises:
        GeometryError: Fewer than 3 pairs, all on a line or at one place, or not finite: there the
            rotation or the scale is not determined.
    """
    x, y = source.double(), target.double()
    w = torch.ones_like(x[..., 0]) if weights is None else weights.double()
    if int((w > 0).sum(-1).min() if w.numel() else 0) < 3:
        raise GeometryError("a similarity needs at least 3 pairs of points")
    w = (w / w.sum(-1, keepdim=True))[..., None]
    x_mean, y_mean = (w * x).sum(-2, keepdim=True), (w * y).sum(-2, keepdim=True)
    x, y = x - x_mean, y - y_mean
    covariance = (w * y).mT @ x
    if not covariance.isfinite().all():
        raise GeometryError("a similarity needs finite points")
    for centered, mean in ((x, x_mean), (y, y_mean)):
        _require_spread((w * centered.square()).sum((-2, -1)), mean)
    variance = (w * x.square()).sum((-2, -1))
    return _least_squares(covariance, variance, x_mean, y_mean).to(source.dtype)


def fit_similarity_in_parts(
    parts: Sequence[tuple[Float[Tensor, "_M 3"], Float[Tensor, "_M 3"]]],
) -> Float[Tensor, "3 4"]:
    """`fit_similarity` of many points in parts, one of which is in memory in float64 at a time.

    Args:
        parts: Pairs (source, target) of any length; gone through twice.

    Returns:
        `[sR | t]`, float64.

    Raises:
        GeometryError: See `fit_similarity`.
    """
    count, sums = 0, torch.zeros(2, 1, 3, dtype=torch.float64)
    for part in parts:
        count += len(part[0])
        sums += torch.stack([points.double().sum(0, keepdim=True) for points in part])
    if count < 3:
        raise GeometryError("a similarity needs at least 3 pairs of points")
    means = list(sums / count)
    covariance, variances = torch.zeros(3, 3, dtype=torch.float64), [0.0, 0.0]
    for part in parts:
        x, y = (points.double() - mean for points, mean in zip(part, means, strict=True))
        covariance += y.mT @ x / count
        for side, points in enumerate((x, y)):
            variances[side] += float(points.square().sum()) / count
    if not covariance.isfinite().all():
        raise GeometryError("a similarity needs finite points")
    for variance, mean in zip(variances, means, strict=True):
        _require_spread(torch.tensor(variance, dtype=torch.float64), mean)
    return _least_squares(covariance, torch.tensor(variances[0]).double(), *means)


def _require_spread(variance: Tensor, mean: Tensor) -> None:
    if (variance.sqrt() <= PLACE_RATIO * mean.norm(dim=(-2, -1))).any():
        raise GeometryError("a similarity needs points that are not at one place")


def _least_squares(
    covariance: Tensor, variance: Tensor, x_mean: Tensor, y_mean: Tensor
) -> Float[Tensor, "*batch 3 4"]:
    """The similarity of two point sets from their moments, float64."""
    u, sizes, v_t = torch.linalg.svd(covariance)
    if (sizes[..., 1] <= LINE_RATIO * sizes[..., 0]).any():
        raise GeometryError("a similarity needs points that do not lie on one line")
    # Without this sign the best orthogonal matrix of mirrored or noisy points may be a reflection.
    sign = torch.ones_like(sizes)
    sign[..., 2] = torch.det(u @ v_t).sign()
    rotation = (u * sign[..., None, :]) @ v_t
    scale = (sizes * sign).sum(-1) / variance
    linear = scale[..., None, None] * rotation
    offset = y_mean.mT - linear @ x_mean.mT
    return torch.cat([linear, offset], dim=-1)


def apply_similarity(
    similarity: Float[Tensor, "*batch 3 4"], points: Float[Tensor, "*points 3"]
) -> Float[Tensor, "*points 3"]:
    """Carry points from one frame into another.

    Args:
        similarity: Its leading axes are the first axes of `points`; points of the remaining axes
            share one similarity: (N, 3, 4) moves (N, H, W, 3) view by view.
    """
    shared = points.ndim - similarity.ndim + 1  # axes of points that have one similarity
    assert shared > 0, "more similarities than points"
    lead = similarity.shape[:-2]
    linear = similarity[..., :3].mT.reshape(*lead, *[1] * (shared - 1), 3, 3)
    return points @ linear + similarity[..., 3].reshape(*lead, *[1] * shared, 3)


def compose(
    outer: Float[Tensor, "*batch 3 4"], inner: Float[Tensor, "*batch 3 4"]
) -> Float[Tensor, "*batch 3 4"]:
    """The similarity that applies `inner` first, then `outer`."""
    linear = outer[..., :3] @ inner[..., :3]
    offset = outer[..., :3] @ inner[..., 3:] + outer[..., 3:]
    return torch.cat([linear, offset], dim=-1)


def invert_similarity(similarity: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3 4"]:
    """The similarity that leads back."""
    inverse = torch.linalg.inv(similarity[..., :3].double())
    offset = -inverse @ similarity[..., 3:].double()
    return torch.cat([inverse, offset], dim=-1).to(similarity.dtype)


def reanchor(
    global_from_local: Float[Tensor, "*batch N 3 4"], anchor: int
) -> Float[Tensor, "*batch N 3 4"]:
    """Similarities into the frame of another view's local map: `inv(S_a) S_i`.

    Args:
        global_from_local: Similarities of all views into the frame of view 0.
        anchor: The view whose local frame and unit become the global ones; its own similarity
            becomes the identity exactly.
    """
    back = invert_similarity(global_from_local[..., anchor : anchor + 1, :, :].double())
    moved = compose(back.expand_as(global_from_local), global_from_local.double())
    moved[..., anchor, :, :] = torch.eye(3, 4, dtype=moved.dtype, device=moved.device)
    return moved.to(global_from_local.dtype)


def scale_of(similarity: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch"]:
    """The factor s by which a similarity stretches lengths."""
    return torch.linalg.det(similarity[..., :3].double()).pow(1 / 3).to(similarity.dtype)
