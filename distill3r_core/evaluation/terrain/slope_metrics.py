"""Metrics of the lunar protocol: depth errors, slopes, hazards (arXiv:2607.01851).

Depth is brought to the truth by one ratio of medians for all views of a sequence. A slope is the
arc tangent of the length of the gradient of depth by Sobel's kernel over 8, per pixel: what the
authors evaluate. It is no angle of the ground, but the same for both sides. Only pixels count all
of whose neighbors are valid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from distill3r_core.evaluation.metric_record import (
    DEGREES,
    PERCENT,
    SHARE,
    Comparison,
    Count,
    Metric,
    MetricUnit,
    mean,
    share,
)
from distill3r_core.evaluation.terrain.ground_depth import METERS, scaled_depth, true_depth
from distill3r_core.losses.gradients import inner

HAZARDS = (5, 10, 15, 20)  # degrees from which a slope is a hazard
_SOBEL = ((-0.125, 0.0, 0.125), (-0.25, 0.0, 0.25), (-0.125, 0.0, 0.125))
_KEY = "terrain"
_TINY = 1e-12


@dataclass(frozen=True)
class GroundViews:
    """Depth and slope of both sides, of the pixels that count of each view."""

    depth: tuple[tuple[Tensor, Tensor], ...]  # predicted and true, in the truth's unit
    slope: tuple[tuple[Tensor, Tensor], ...]  # the same in degrees


def slopes(depth: Float[Tensor, "N H W"]) -> Float[Tensor, "N H W"]:
    """Arc tangent of the length of the depth's gradient per pixel, in degrees."""
    across = depth.new_tensor(_SOBEL)
    kernel = torch.stack([across, across.mT])[:, None]
    gradient = conv2d(pad(depth[:, None], (1, 1, 1, 1), mode="replicate"), kernel)
    return torch.rad2deg(torch.atan(gradient.norm(dim=1)))


def correlation(found: Float[Tensor, "M"], wanted: Float[Tensor, "M"]) -> float:
    """Pearson's correlation; 0 where one side does not vary."""
    mine, true = found - found.mean(), wanted - wanted.mean()
    length = mine.norm() * true.norm()
    return float((mine @ true) / length.clamp(min=_TINY))


def _views(comparison: Comparison) -> GroundViews:
    if _KEY in comparison.kept:
        return comparison.kept[_KEY]
    mask, truth = comparison.truth.mask, true_depth(comparison)
    depth = scaled_depth(comparison)
    whole = inner(mask)
    filled = [torch.where(mask, values, 0.0) for values in (depth, truth)]
    angles = [slopes(values) for values in filled]
    found = GroundViews(
        depth=tuple(
            (filled[0][view][valid], filled[1][view][valid]) for view, valid in enumerate(mask)
        ),
        slope=tuple(
            (angles[0][view][valid], angles[1][view][valid]) for view, valid in enumerate(whole)
        ),
    )
    comparison.kept[_KEY] = found
    return found


def _mae(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().mean())


def _rmse(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).square().mean().sqrt())


def _silog(found: Tensor, wanted: Tensor) -> float:
    """Standard deviation of the logarithm of the ratio: free of scale (Eigen et al. 2014)."""
    ratio = found.clamp(min=_TINY).log() - wanted.log()
    return float(ratio.std(correction=0))


def _agreement(found: Tensor, wanted: Tensor, *, degrees: int) -> float:
    """Share of pixels that both sides call a hazard, or both do not."""
    return float(((found > degrees) == (wanted > degrees)).double().mean())


def _false_alarms(found: Tensor, wanted: Tensor, *, degrees: int) -> float | None:
    """Share of safe pixels that are called a hazard; None without safe ones."""
    safe = wanted <= degrees
    return float((found[safe] > degrees).double().mean()) if safe.any() else None


def _misses(found: Tensor, wanted: Tensor, *, degrees: int) -> Count:
    """How many hazards are called safe, of how many."""
    hazard = wanted > degrees
    missed = float((found[hazard] <= degrees).sum()) if found.isfinite().all() else math.nan
    return missed, float(hazard.sum())


def _metric(
    side: Literal["depth", "slope"],
    name: str,
    heading: str,
    unit: MetricUnit,
    better: Literal["lower", "higher"],
    figure: Callable[[Tensor, Tensor], float | None],
) -> Metric:
    """The metric of a figure of each view's depth or slope; views without one are left out.

    A prediction that is not a number makes it NaN: no slope of it is beyond a limit, which a share
    would take for flat ground.
    """

    def measure(comparison: Comparison) -> Sequence[float] | None:
        views: Sequence[tuple[Tensor, Tensor]] = getattr(_views(comparison), side)
        values = [
            figure(*sides) if sides[0].isfinite().all() else math.nan
            for sides in views
            if len(sides[0])
        ]
        found = [value for value in values if value is not None]
        return found or None

    return Metric(name, heading, unit, better, measure, mean, mean)


def _missed_hazards(degrees: int) -> Metric:
    """The share of all hazards of a data set: many a view has none of which to take a share."""

    def measure(comparison: Comparison) -> Sequence[Count]:
        return [_misses(*sides, degrees=degrees) for sides in _views(comparison).slope]

    name, heading = f"hazard_missed_{degrees}", f"missed {degrees}°"
    return Metric(name, heading, SHARE, "lower", measure, share, mean, pooled=True)


GROUND_METRICS: tuple[Metric, ...] = (
    _metric("depth", "depth_mae", "depth MAE", METERS, "lower", _mae),
    _metric("depth", "depth_rmse", "depth RMSE", METERS, "lower", _rmse),
    _metric("depth", "depth_correlation", "depth r", SHARE, "higher", correlation),
    _metric("depth", "silog", "SILog", PERCENT, "lower", _silog),
    _metric("slope", "slope_mae", "slope MAE", DEGREES, "lower", _mae),
    _metric("slope", "slope_rmse", "slope RMSE", DEGREES, "lower", _rmse),
    _metric("slope", "slope_correlation", "slope r", SHARE, "higher", correlation),
    *(
        metric
        for degrees in HAZARDS
        for metric in (
            _metric(
                "slope",
                f"hazard_{degrees}",
                f"hazards {degrees}°",
                SHARE,
                "higher",
                partial(_agreement, degrees=degrees),
            ),
            _metric(
                "slope",
                f"hazard_false_{degrees}",
                f"false alarms {degrees}°",
                SHARE,
                "lower",
                partial(_false_alarms, degrees=degrees),
            ),
            _missed_hazards(degrees),
        )
    ),
)
