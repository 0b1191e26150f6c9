"""Metrics of depth with one scale for a whole scene, as SpatialBench measures it."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.evaluation.map_metrics import DELTAS, INLIERS
from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    LOG,
    SHARE,
    Comparison,
    Metric,
    MetricUnit,
    mean,
)
from distill3r_core.geometry.depth_alignment import median_ratio
from distill3r_core.geometry.depth_errors import DepthErrors, depth_errors, temporal_gradient_error

_TINY = 1e-6  # meters; depth below it does not count, on either side


def _of_scene(
    measure: Callable[[DepthErrors], float], *, aligned: bool = True
) -> Callable[[Comparison], Sequence[float]]:
    """A measure of all depths of a scene together, after the ratio of their medians or as is."""
    key = f"depth of the scene, {'aligned' if aligned else 'as it is'}"

    def measured(comparison: Comparison) -> Sequence[float]:
        if key not in comparison.kept:  # ten figures are of the same errors
            predicted, truth, known = _depths(comparison)
            mine, true = predicted[known], truth[known]
            scaled = median_ratio(mine, true) * mine if aligned else mine
            counted = ~(scaled <= _TINY)  # NaN counts: it must not be left out of a mean
            comparison.kept[key] = depth_errors(scaled[counted], true[counted])
        return [measure(comparison.kept[key])]

    return measured


def _gradient(comparison: Comparison) -> Sequence[float] | None:
    predicted, truth, known = _depths(comparison)
    if len(truth) < 2:
        return None
    scale = median_ratio(predicted[known], truth[known])
    return [temporal_gradient_error(scale * predicted, truth, known)]


def _depths(
    comparison: Comparison,
) -> tuple[Float[Tensor, "N H W"], Float[Tensor, "N H W"], Bool[Tensor, "N H W"]]:
    """Predicted and true depth, and where the true one counts."""
    truth = comparison.truth.points[..., 2].double()
    predicted = torch.stack(list(comparison.maps.points_local))[..., 2].double()
    return predicted, truth, comparison.truth.mask & (truth > _TINY)


# Heading, unit and measure of each error.
_ERRORS: dict[str, tuple[str, MetricUnit, Callable[[DepthErrors], float]]] = {
    "abs_rel": ("Abs Rel", SHARE, lambda errors: errors.abs_rel),
    "sq_rel": ("Sq Rel", CENTIMETERS, lambda errors: errors.sq_rel),
    "rmse": ("RMSE", CENTIMETERS, lambda errors: errors.rmse),
    "log_rmse": ("log RMSE", LOG, lambda errors: errors.log_rmse),
}
_SHARES = {
    f"{name}_{end}": (f"{title} {shown}", ratio)
    for name, title, ratios in (("delta", "delta", DELTAS), ("inlier", "inliers", INLIERS))
    for end, (shown, ratio) in ratios.items()
}


def _metrics(*, aligned: bool) -> tuple[Metric, ...]:
    """All errors of depth; those without an alignment are of models that know meters."""
    suffix, words = ("", "") if aligned else ("_metric", ", not aligned")
    return (
        *(
            Metric(
                f"{name}{suffix}", f"{heading}{words}", unit, "lower",
                _of_scene(measure, aligned=aligned), mean, mean, describe=unit is CENTIMETERS,
            )
            for name, (heading, unit, measure) in _ERRORS.items()
        ),
        *(
            Metric(
                f"{name}{suffix}", f"{heading}{words}", SHARE, "higher",
                _of_scene(
                    lambda errors, ratio=ratio: errors.share_within(ratio), aligned=aligned
                ),
                mean, mean,
            )
            for name, (heading, ratio) in _SHARES.items()
        ),
    )  # fmt: skip


SCENE_DEPTH_METRICS: tuple[Metric, ...] = (
    *_metrics(aligned=True),
    *_metrics(aligned=False),
    Metric("tgm", "TGM", CENTIMETERS, "lower", _gradient, mean, mean, ".2f", describe=True),
)
