"""Depth of the lunar protocol, at the size of the truth's, and its structure in the image."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d

from distill3r_core.evaluation.metric_record import SHARE, Comparison, Metric, MetricUnit, mean
from distill3r_core.geometry.depth_alignment import median_ratio

METERS = MetricUnit("m", "units of truth")
_WINDOW, _SIGMA = 11, 1.5  # pixels, of SSIM's Gaussian
_K1, _K2 = 0.01, 0.03  # shares of the range that SSIM's constants are the squares of
_KEY = "ground depth"


def scaled_depth(comparison: Comparison) -> Float[Tensor, "N H W"]:
    """Predicted depth, float64, times one ratio of medians for all views."""
    if _KEY not in comparison.kept:
        mask, truth = comparison.truth.mask, true_depth(comparison)
        depth = torch.stack(list(comparison.maps.points_local))[..., 2].double()
        comparison.kept[_KEY] = median_ratio(depth[mask], truth[mask]) * depth
    return comparison.kept[_KEY]


def true_depth(comparison: Comparison) -> Float[Tensor, "N H W"]:
    """True depth, float64; anything outside the mask."""
    return comparison.truth.points[..., 2].double()


def structural_similarity(
    found: Float[Tensor, "H W"], wanted: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"]
) -> float | None:
    """Mean SSIM of two depth maps (Wang et al. 2004): a Gaussian of 11 pixels, sigma 1.5.

    The range of values is that of true depth in the mask. Only windows count that lie in the image
    and whose pixels are all valid.

    Returns:
        None where there is no such window, or all true depth is the same.
    """
    whole = _windows(mask.double(), torch.ones(_WINDOW, dtype=torch.float64)) == _WINDOW**2
    if not whole.any():
        return None
    span = float(wanted[mask].max() - wanted[mask].min())
    if span == 0:
        return None
    across = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    bell = torch.exp(-across.square() / (2 * _SIGMA**2))
    bell = bell / bell.sum()
    # From the middle of the range: variances are differences of squares.
    middle = float(wanted[mask].min()) + span / 2
    a, b = (torch.where(mask, it - middle, 0.0) for it in (found, wanted))
    mean_a, mean_b = _windows(a, bell), _windows(b, bell)
    spread_a = _windows(a * a, bell) - mean_a.square()
    spread_b = _windows(b * b, bell) - mean_b.square()
    both = _windows(a * b, bell) - mean_a * mean_b
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    # SSIM compares brightness as it is: depth from the nearest true point on, as an image from 0.
    mean_a, mean_b = mean_a + span / 2, mean_b + span / 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    similarity /= (mean_a.square() + mean_b.square() + c1) * (spread_a + spread_b + c2)
    return float(similarity[whole].mean())


def _windows(values: Float[Tensor, "H W"], kernel: Float[Tensor, " K"]) -> Float[Tensor, "h w"]:
    """Sums over all windows that lie in the image, weighted along rows and columns."""
    if min(values.shape) < len(kernel):
        return values.new_zeros(0, 0)
    along_rows = conv2d(values[None, None], kernel[None, None, :, None])
    return conv2d(along_rows, kernel[None, None, None])[0, 0]


def profile_error(
    found: Float[Tensor, "H W"], wanted: Float[Tensor, "H W"], mask: Bool[Tensor, "H W"]
) -> float | None:
    """Mean error of depth along the middle row; None where nothing of it is valid."""
    row = len(mask) // 2
    valid = mask[row]
    return float((found - wanted)[row][valid].abs().mean()) if valid.any() else None


def _ssim(comparison: Comparison) -> Sequence[float] | None:
    return _of_views(comparison, structural_similarity)


def _profile(comparison: Comparison) -> Sequence[float] | None:
    return _of_views(comparison, profile_error)


def _of_views(
    comparison: Comparison, figure: Callable[[Tensor, Tensor, Tensor], float | None]
) -> Sequence[float] | None:
    """The figure of each view that has one; NaN where the prediction is not finite."""
    views = zip(
        scaled_depth(comparison), true_depth(comparison), comparison.truth.mask, strict=True
    )
    values = [
        figure(found, true, mask) if found[mask].isfinite().all() else math.nan
        for found, true, mask in views
    ]
    return [value for value in values if value is not None] or None


STRUCTURE_METRICS: tuple[Metric, ...] = (
    Metric("depth_ssim", "depth SSIM", SHARE, "higher", _ssim, mean, mean),
    Metric("profile_mae", "profile MAE", METERS, "lower", _profile, mean, mean),
)
