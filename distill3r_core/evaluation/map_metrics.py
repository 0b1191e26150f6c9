"""Metrics of what maps show apart from their surfaces: depth, focal length and the fused cloud."""

from collections.abc import Callable, Sequence

import torch

from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    LOG,
    PERCENT,
    SHARE,
    Comparison,
    Metric,
    mean,
)
from distill3r_core.geometry.depth_errors import DepthErrors
from distill3r_core.geometry.focal import focal_ratio
from distill3r_core.geometry.fused_cloud import fused_error, shape_distances

# Ratios of depth, by the ends of their metrics' names and headings (Eigen et al.; SpatialBench).
DELTAS = {"125": ("1.25", 1.25), "125_2": ("1.25^2", 1.25**2), "125_3": ("1.25^3", 1.25**3)}
INLIERS = {"103": ("1.03", 1.03), "105": ("1.05", 1.05), "110": ("1.10", 1.10)}


def _of_depth(measure: Callable[[DepthErrors], float]) -> Callable[[Comparison], Sequence[float]]:
    """A measure of each view's depth, scaled by its median."""

    def measured(comparison: Comparison) -> Sequence[float]:
        return [measure(errors) for errors in comparison.depth_errors]

    return measured


def _focal(comparison: Comparison) -> Sequence[float]:
    truth = comparison.truth
    return [
        abs(float(focal_ratio(points, mask, intrinsics)) - 1)
        for points, mask, intrinsics in zip(
            comparison.maps.points_local, truth.mask, truth.intrinsics, strict=True
        )
    ]


def _fused(comparison: Comparison) -> Sequence[float] | None:
    truth, similarities = comparison.truth, comparison.maps.global_from_local
    true_similarities = truth.global_from_local
    if similarities is None or true_similarities is None:
        return None
    try:
        error = fused_error(
            comparison.maps.points_local,
            truth.points,
            truth.mask,
            predicted_similarities=similarities,
            true_similarities=true_similarities,
        )
    except GeometryError:
        error = float("nan")  # a pose that is not finite, or all points at one place
    return [error]


def _shape(comparison: Comparison) -> Sequence[float]:
    truth = comparison.truth
    try:
        distances = list(shape_distances(comparison.maps.points_local, truth.points, truth.mask))
    except GeometryError:
        return [float("nan")]
    if truth.similarities is not None:  # as lengths in the frame of the fused truth
        scales = torch.linalg.det(truth.similarities[:, :, :3].double()).pow(1 / 3)
        distances = [scale * one for scale, one in zip(scales, distances, strict=True)]
    return [float(torch.cat(distances).mean())]


MAP_METRICS: tuple[Metric, ...] = (
    Metric("abs_rel", "Abs Rel", SHARE, "lower", _of_depth(lambda e: e.abs_rel), mean, mean),
    Metric(
        "sq_rel", "Sq Rel", CENTIMETERS, "lower", _of_depth(lambda e: e.sq_rel), mean, mean, ".2f",
        describe=True,
    ),
    Metric(
        "rmse", "RMSE", CENTIMETERS, "lower", _of_depth(lambda e: e.rmse), mean, mean, ".2f",
        describe=True,
    ),
    Metric("log_rmse", "log RMSE", LOG, "lower", _of_depth(lambda e: e.log_rmse), mean, mean),
    *(
        Metric(
            f"{name}_{end}", f"{title} {shown}", SHARE, "higher",
            _of_depth(lambda errors, ratio=ratio: errors.share_within(ratio)), mean, mean,
        )
        for name, title, ratios in (("delta", "delta", DELTAS), ("inlier", "inliers", INLIERS))
        for end, (shown, ratio) in ratios.items()
    ),
    Metric("focal_error", "focal (%)", PERCENT, "lower", _focal, mean, mean, ".1f"),
    Metric(
        "fused", "fused", CENTIMETERS, "lower", _fused, mean, mean, ".1f",
        describe=True, of_poses=True, of_placed_maps=True,
    ),
    Metric(
        "fused_true_poses", "shape", CENTIMETERS, "lower", _shape, mean, mean, ".1f", describe=True
    ),
)  # fmt: skip
