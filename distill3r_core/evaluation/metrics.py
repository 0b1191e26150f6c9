"""Metrics: what is measured on a sequence, and how the figures of a data set come from it.

A metric is a record in `METRICS`; protocols name those that they report.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.metrics import AlignedClouds, summarize_scales
from distill3r_core.registry import Registry
from distill3r_core.types import RawMaps


@dataclass(frozen=True)
class Comparison:
    """A prediction of one sequence beside its truth, as metrics see it.

    Args:
        clouds: Predicted and true points after the protocol's alignment: one pair per view, or
            one for the whole sequence.
    """

    truth: Truth
    maps: RawMaps
    clouds: tuple[AlignedClouds, ...]


Reduction = Callable[[Sequence[float]], float]


@dataclass(frozen=True)
class MetricUnit:
    """The unit of a metric."""

    name: str  # its name where the truth is in meters
    unscaled: str  # its name where the truth has no known unit
    factor: float = 1.0  # figures are multiplied by this after they have been reduced

    def named(self, unit: str) -> str:
        """Its name for a truth in `unit`: "m" or "none"."""
        return self.name if unit == "m" else self.unscaled


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation.

    Args:
        measure: Values of a sequence: one per view, pair of views or point. None where the
            prediction or the truth lacks what it needs.
    """

    name: str
    heading: str
    unit: MetricUnit  # unit of the figure
    better: Literal["lower", "higher", "one"]  # direction of improvement; "one" where 1 is perfect
    measure: Callable[[Comparison], Sequence[float] | None]
    within: Reduction  # reduces the values of a sequence to its figure
    over: Reduction  # reduces the figures of sequences to that of the data set
    format: str = ".3f"
    describe: bool = False  # headings of tables name the unit


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, summed without rounding."""
    return math.fsum(values) / len(values)


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log v)) of positive values."""
    return summarize_scales(values).geometric_mean


def log_spread(values: Sequence[float]) -> float:
    """Population standard deviation of log v."""
    return summarize_scales(values).log_spread


def log_error(values: Sequence[float]) -> float:
    """mean(|log v|)."""
    return summarize_scales(values).log_error


median: Reduction = statistics.median


CENTIMETERS = MetricUnit("cm", "0.01 units of truth", factor=100.0)
SCALE = MetricUnit("m per unit", "ratio")
LOG = MetricUnit("log", "log")
DEGREES = MetricUnit("degrees", "degrees")
SHARE = MetricUnit("share of 1", "share of 1")


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
):
    METRICS.add(_metric.name, _metric)
