"""Metrics: what is measured on a sequence, and how the figures of a data set come from it.

A metric is a record in `METRICS`; protocols name those that they report.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    LOG,
    SCALE,
    Comparison,
    Metric,
    geometric_mean,
    log_error,
    log_spread,
    mean,
)
from distill3r_core.evaluation.pose_metrics import POSE_METRICS
from distill3r_core.registry import Registry


def _accuracy(comparison: Comparison) -> Sequence[float]:
    return [_median(clouds.accuracy) for clouds in comparison.clouds]


def _completeness(comparison: Comparison) -> Sequence[float]:
    return [_median(clouds.completeness) for clouds in comparison.clouds]


def _scale(comparison: Comparison) -> Sequence[float]:
    return [clouds.scale for clouds in comparison.clouds]


def _norm_ratio(comparison: Comparison) -> Sequence[float]:
    return [clouds.norm_ratio for clouds in comparison.clouds]


def _median(values: Float[Tensor, " M"]) -> float:
    # Not torch.median, which takes the lower of the two middle values.
    return float(np.median(values.numpy()))


METRICS: Registry[Metric] = Registry("metric")
for _metric in (
    Metric("acc", "Acc", CENTIMETERS, "lower", _accuracy, mean, mean, ".2f", describe=True),
    Metric("comp", "Comp", CENTIMETERS, "lower", _completeness, mean, mean, ".2f", describe=True),
    Metric("scale", "scale", SCALE, "one", _scale, geometric_mean, geometric_mean),
    Metric("scale_mean", "scale, mean", SCALE, "one", _scale, mean, mean),
    Metric("scale_log_spread", "spread of log", LOG, "lower", _scale, geometric_mean, log_spread),
    Metric("scale_log_spread_views", "spread over views", LOG, "lower", _scale, log_spread, mean),
    Metric("scale_log_error", "|log scale|", LOG, "lower", _scale, geometric_mean, log_error),
    # Does not shrink as errors grow, as the least-squares scale does.
    Metric("scale_norm", "norm ratio", SCALE, "one", _norm_ratio, geometric_mean, geometric_mean),
    *POSE_METRICS,
):
    METRICS.add(_metric.name, _metric)
