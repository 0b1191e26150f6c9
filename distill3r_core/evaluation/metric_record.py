"""What a metric is: what it measures on a sequence, its unit, and how its values are reduced."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.depth_alignment import lower_median_ratio
from distill3r_core.geometry.depth_errors import DepthErrors, depth_errors
from distill3r_core.geometry.metrics import AlignedClouds, summarize_scales
from distill3r_core.types import RawMaps


@dataclass(frozen=True)
class Comparison:
    """A prediction of one sequence beside its truth, as metrics see it.

    Args:
        clouds: Predicted and true points after the protocol's alignment: one pair per view, or
            one for the whole sequence. Empty where the protocol compares none, or the prediction
            does not place all views.
        kept: What a metric found and another one needs.
    """

    truth: Truth
    maps: RawMaps
    clouds: tuple[AlignedClouds, ...]
    kept: dict[str, Any] = field(default_factory=dict)

    @cached_property  # several metrics are made of them
    def depth_errors(self) -> list[DepthErrors]:
        """Errors of each view's depth after the ratio of its (lower) median depths, as CUT3R's."""
        found = []
        for view, mask in enumerate(self.truth.mask):
            mine = self.maps.points_local[view][..., 2][mask]
            true = self.truth.points[view, ..., 2][mask]
            found.append(depth_errors(lower_median_ratio(mine, true) * mine.double(), true))
        return found


Count = tuple[float, float]  # how many, of how many
Values = Sequence[Any]  # numbers; counts, where a share is taken of all of them
Reduction = Callable[[Sequence[Any]], float]


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
        measure: Values of a sequence: one per view, pair of views or point. None, or no value,
            where the prediction or the truth lacks what it needs.
        pooled: Whether values of all sequences are reduced at once by `within`, whatever the
            protocol's aggregation.
    """

    name: str
    heading: str
    unit: MetricUnit  # unit of the figure
    better: Literal["lower", "higher", "one"]  # direction of improvement; "one" where 1 is perfect
    measure: Callable[[Comparison], Values | None]
    within: Reduction  # reduces the values of a sequence to its figure
    over: Reduction  # reduces the figures of sequences to that of the data set
    format: str = ".3f"
    describe: bool = False  # headings of tables name the unit
    of_poses: bool = False  # depends on predicted poses; of a baseline of poses alone is scored
    of_placed_maps: bool = False  # depends on how large maps are beside the poses
    pooled: bool = False


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, summed without rounding."""
    return math.fsum(values) / len(values)


def share(counts: Sequence[Sequence[float]]) -> float:
    """Share of all that was counted; NaN where there was nothing to count."""
    total = math.fsum(wanted for _, wanted in counts)
    return math.fsum(found for found, _ in counts) / total if total else math.nan


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
PERCENT = MetricUnit("percent", "percent", factor=100.0)
SHARE = MetricUnit("share of 1", "share of 1")
