"""Metrics: what is measured on a sequence, and how the figures of a data set come from it.

A metric is a record in `METRICS`; protocols name those that they report. Where published codes
measure the same thing in different ways, each has its record, `<rules>:<name>`: figures have the
plain name, and a protocol says by which rules.
"""

from collections.abc import Sequence

from distill3r_core.evaluation.cloud_metrics import CLOUD_METRICS
from distill3r_core.evaluation.fused_metrics import FUSED_METRICS
from distill3r_core.evaluation.localization.localization_metrics import LOCALIZATION_METRICS
from distill3r_core.evaluation.map_metrics import MAP_METRICS
from distill3r_core.evaluation.metric_record import (
    LOG,
    SCALE,
    Comparison,
    Metric,
    geometric_mean,
    log_error,
    log_spread,
    mean,
)
from distill3r_core.evaluation.pose_metrics import POSE_RULES, VGGT, pose_metrics
from distill3r_core.evaluation.scene_depth_metrics import SCENE_DEPTH_METRICS
from distill3r_core.evaluation.terrain.ground_depth import STRUCTURE_METRICS
from distill3r_core.evaluation.terrain.pair_metrics import PAIR_METRICS
from distill3r_core.evaluation.terrain.slope_metrics import GROUND_METRICS
from distill3r_core.registry import Registry


def _scale(comparison: Comparison) -> Sequence[float]:
    return [clouds.scale for clouds in comparison.clouds]


def _norm_ratio(comparison: Comparison) -> Sequence[float]:
    return [clouds.norm_ratio for clouds in comparison.clouds]


METRICS: Registry[Metric] = Registry("metric")
for _metric in (
    *CLOUD_METRICS,
    Metric("scale", "scale, fit", SCALE, "one", _scale, geometric_mean, geometric_mean),
    Metric("scale_mean", "scale, mean", SCALE, "one", _scale, mean, mean),
    Metric("scale_log_spread", "spread of log", LOG, "lower", _scale, geometric_mean, log_spread),
    Metric("scale_fit_spread_views", "fit s.d.", LOG, "lower", _scale, log_spread, mean),
    Metric("scale_log_error", "|log scale|", LOG, "lower", _scale, geometric_mean, log_error),
    # Does not shrink as errors grow, as the least-squares scale does.
    Metric("scale_norm", "scale", SCALE, "one", _norm_ratio, geometric_mean, geometric_mean),
    Metric("scale_log_spread_views", "scale s.d.", LOG, "lower", _norm_ratio, log_spread, mean),
    *MAP_METRICS,
    *GROUND_METRICS,
    *STRUCTURE_METRICS,
    *PAIR_METRICS,
    *LOCALIZATION_METRICS,
    *pose_metrics(VGGT),
):
    METRICS.add(_metric.name, _metric)
for _rules in POSE_RULES:
    if _rules is not VGGT:
        for _metric in pose_metrics(_rules):
            METRICS.add(f"{_rules.name}:{_metric.name}", _metric)
for _metric in SCENE_DEPTH_METRICS:
    METRICS.add(f"scene:{_metric.name}", _metric)
for _name, _metric in FUSED_METRICS.items():
    METRICS.add(_name, _metric)
