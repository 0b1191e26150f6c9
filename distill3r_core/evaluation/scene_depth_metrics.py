"""Metrics of depth with one scale for a whole scene, as SpatialBench measures it."""

from collections.abc import Callable, Sequence

import torch

from distill3r_core.evaluation.metric_record import SHARE, Comparison, Metric, mean
from distill3r_core.geometry.depth_alignment import median_ratio
from distill3r_core.geometry.depth_errors import DepthErrors, depth_errors

_TINY = 1e-6  # meters; depth below it does not count, on either side
_DELTA, _INLIER = 1.25, 1.03


def _of_scene(measure: Callable[[DepthErrors], float]) -> Callable[[Comparison], Sequence[float]]:
    def measured(comparison: Comparison) -> Sequence[float]:
        mask = comparison.truth.mask & (comparison.truth.points[..., 2] > _TINY)
        mine = torch.stack(list(comparison.maps.points_local))[..., 2][mask].double()
        true = comparison.truth.points[..., 2][mask].double()
        aligned = median_ratio(mine, true) * mine
        counted = ~(aligned <= _TINY)  # NaN counts: it must not be left out of a mean
        return [measure(depth_errors(aligned[counted], true[counted]))]

    return measured


SCENE_DEPTH_METRICS: tuple[Metric, ...] = (
    Metric("abs_rel", "Abs Rel", SHARE, "lower", _of_scene(lambda e: e.abs_rel), mean, mean),
    Metric(
        "delta_125",
        "delta 1.25",
        SHARE,
        "higher",
        _of_scene(lambda errors: errors.share_within(_DELTA)),
        mean,
        mean,
    ),
    Metric(
        "inlier_103",
        "inliers 1.03",
        SHARE,
        "higher",
        _of_scene(lambda errors: errors.share_within(_INLIER)),
        mean,
        mean,
    ),
)
