"""The robust least-squares problem of a directed pair: brightness and depth, whitened."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.reconstruction.refinement.warp import Warp

# Residuals of so many deviations have a quarter of the weight, and no residual costs more than half
# of its square (Geman and McClure, 1987): what is occluded or reflected cannot pull.
_WIDTH = 3.0
_OCCLUDED = 3.0  # deviations behind the target's depth from which a point is hidden there
_MAD = 1.4826  # of a Gaussian: its deviation over its median absolute deviation
_LEAST_BRIGHTNESS_NOISE = 0.002  # half a step of 8 bits
_LEAST_DEPTH_NOISE = 0.005
_LARGEST_GAIN = 4.0
# A map's depth errors are smooth: neighbors say the same, where the noise of brightness is each
# pixel's own. So a depth counts as this share of a brightness.
DEPTH_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class Noise:
    """Expected deviations of residuals, for each pair."""

    brightness: Float[Tensor, " P"]
    depth: Float[Tensor, " P"]


@dataclass(frozen=True, eq=False)
class Equations:
    """Gauss-Newton's system of each pair, divided by the number of pixels that are seen.

    Args:
        matrix: J^T W J by twist, source scale, target scale, focal length; gain and offset of the
            brightness are eliminated.
        vector: J^T W r.
        cost: Mean of Huber's function over pixels.
        share: Share of the source's pixels that the target sees.
    """

    matrix: Float[Tensor, "P 9 9"]
    vector: Float[Tensor, "P 9"]
    cost: Float[Tensor, " P"]
    share: Float[Tensor, " P"]


# A median of so many pixels, evenly spread, is as good as that of all; of all it was a quarter of
# the time of an alignment.
_MEDIAN_OF = 1000


def masked_median(values: Float[Tensor, "P M"], mask: Bool[Tensor, "P M"]) -> Float[Tensor, " P"]:
    """Median of the values under the mask, of every few where there are many; 0 without any."""
    each = max(1, values.shape[1] // _MEDIAN_OF)
    values, mask = values[:, ::each], mask[:, ::each]
    median = values.masked_fill(~mask, torch.nan).nanmedian(dim=1).values
    return median.nan_to_num(0.0)


def brightness_residual(warped: Warp) -> Float[Tensor, "P M"]:
    """What is left of the brightness after the gain and offset that fit best."""
    found, own, seen = warped.found, warped.own, warped.seen
    residual = found - own
    residual = residual - masked_median(residual, seen)[:, None]
    for _ in range(2):
        width = 2 * masked_median(residual.abs(), seen)[:, None] + 1e-3
        weights = seen / (1 + (residual / width).square())
        gain, offset = _fit_gain(found, own, weights)
        residual = found - gain * own - offset
    return residual


def _fit_gain(found: Tensor, own: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    total = weights.sum(1, keepdim=True).clamp(min=1e-6)
    mean_found = (weights * found).sum(1, keepdim=True) / total
    mean_own = (weights * own).sum(1, keepdim=True) / total
    centered = own - mean_own
    variance = (weights * centered.square()).sum(1, keepdim=True) / total
    covariance = (weights * centered * (found - mean_found)).sum(1, keepdim=True) / total
    # Where a picture has no contrast there is no gain to be fitted.
    gain = (covariance + 1e-5) / (variance + 1e-5)
    gain = gain.clamp(1 / _LARGEST_GAIN, _LARGEST_GAIN)
    return gain, mean_found - gain * mean_own


def noise_of(warped: Warp, brightness: Float[Tensor, "P M"]) -> Noise:
    """Deviations by the median absolute residual."""
    return Noise(
        (_MAD * masked_median(brightness.abs(), warped.seen)).clamp(min=_LEAST_BRIGHTNESS_NOISE),
        (_MAD * masked_median(warped.depth.abs(), warped.seen)).clamp(min=_LEAST_DEPTH_NOISE),
    )


def robust_cost(
    warped: Warp, brightness: Float[Tensor, "P M"], noise: Noise, depth_weight: float
) -> tuple[Float[Tensor, " P"], Tensor, Tensor]:
    """Mean of the robust function over the pixels seen, and the weights of both residuals.

    The brightness of a hidden point says nothing: it has no weight, and costs as much as the worst.
    """
    count = warped.seen.sum(1).clamp(min=1)
    cap = _WIDTH**2
    light = (brightness / noise.brightness[:, None]).square()
    deep = (warped.depth / noise.depth[:, None]).square()
    hidden = (warped.depth > 0) & (deep > _OCCLUDED**2)
    light_cost = torch.where(hidden, cap / 2, light / (1 + light / cap) / 2)
    deep_cost = deep / (1 + deep / cap) / 2
    cost = ((light_cost + depth_weight * deep_cost) * warped.seen).sum(1) / count
    light_weight = (warped.seen & ~hidden) / (1 + light / cap).square()
    deep_weight = depth_weight * warped.seen / (1 + deep / cap).square()
    return (
        cost,
        light_weight / noise.brightness.square()[:, None],
        deep_weight / noise.depth.square()[:, None],
    )


def equations(warped: Warp, noise: Noise, *, depth_weight: float = DEPTH_WEIGHT) -> Equations:
    """The system of each pair at its present state."""
    assert warped.brightness_slopes is not None and warped.depth_slopes is not None
    residual = brightness_residual(warped)
    cost, light, deep = robust_cost(warped, residual, noise, depth_weight)
    count = warped.seen.sum(1).clamp(min=1)
    J, D = warped.brightness_slopes.movedim(0, 1), warped.depth_slopes.movedim(0, 1)  # (P, 9, M)
    J = torch.where(warped.seen[:, None], J, 0.0)
    D = torch.where(warped.seen[:, None], D, 0.0)
    weighted, weighted_depth = J * light[:, None], D * deep[:, None]
    matrix = weighted @ J.mT + weighted_depth @ D.mT
    vector = weighted @ residual[..., None] + weighted_depth @ warped.depth[..., None]
    affine = torch.stack([warped.own, torch.ones_like(warped.own)], dim=1)  # (P, 2, M)
    mixed = (weighted @ affine.mT).double()
    inner = ((affine * light[:, None]) @ affine.mT).double()
    inner = inner + 1e-9 * torch.eye(2, dtype=inner.dtype, device=inner.device)
    left = ((affine * light[:, None]) @ residual[..., None]).double()
    reduced = torch.linalg.solve(inner, torch.cat([mixed.mT, left], dim=-1))
    matrix = matrix.double() - mixed @ reduced[..., :-1]
    vector = vector.double() - mixed @ reduced[..., -1:]
    return Equations(
        matrix / count[:, None, None],
        vector[..., 0] / count[:, None],
        cost,
        warped.seen.sum(1) / warped.seen.shape[1],
    )
