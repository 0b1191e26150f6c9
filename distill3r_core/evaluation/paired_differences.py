"""How sure the difference of two models is: paired differences with bootstrap intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill3r_core.evaluation.metric_record import Metric
from distill3r_core.evaluation.scores import SequenceScore

DRAWS = 2000
LEVEL = 0.95
MIN_SEQUENCES = 5  # of fewer, views are drawn instead: two sequences say nothing of a third


@dataclass(frozen=True)
class PairedDifference:
    """A figure of another model minus that of the first, with its interval.

    Args:
        drawn: What was drawn with replacement, for both models alike: sequences; or, of metrics
            that have a value for each view, views within each sequence.
    """

    difference: float
    low: float
    high: float
    drawn: Literal["sequences", "views"]

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def paired_difference(
    first: Sequence[SequenceScore],
    other: Sequence[SequenceScore],
    metric: Metric,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> PairedDifference | None:
    """Compare two models on the same views, by the percentiles of a bootstrap (Efron, 1979).

    Args:
        first: Scores of the first model.
        other: Scores of the other one.

    Returns:
        In the unit of the figure. None where the models were not scored on the same sequences, a
        figure is missing or not finite, or nothing can be drawn.
    """
    if [(one.name, one.views) for one in first] != [(one.name, one.views) for one in other]:
        return None
    pairs = [
        (mine.values[metric.name], theirs.values[metric.name])
        for mine, theirs in zip(first, other, strict=True)
    ]
    values = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(values) < len(pairs) or not values:
        return None
    random = np.random.default_rng(seed)
    if len(values) >= MIN_SEQUENCES:
        figures = np.array([[metric.within(side) for side in pair] for pair in values])
        draw = _draw_sequences(figures, metric, random)
        drawn: Literal["sequences", "views"] = "sequences"
    elif all(len(a) == len(b) == one.views for (a, b), one in zip(values, first, strict=True)):
        if min(one.views for one in first) < MIN_SEQUENCES:
            return None
        draw, drawn = _draw_views(values, metric, random), "views"
    else:
        return None
    difference = _difference([(metric.within(a), metric.within(b)) for a, b in values], metric)
    found = np.array([draw() for _ in range(draws)])
    if not math.isfinite(difference) or not np.isfinite(found).all():
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    factor = metric.unit.factor
    return PairedDifference(factor * difference, factor * float(low), factor * float(high), drawn)


def _difference(figures: Sequence[tuple[float, float]], metric: Metric) -> float:
    first, other = zip(*figures, strict=True)
    return metric.over(list(other)) - metric.over(list(first))


def _draw_sequences(
    figures: np.ndarray, metric: Metric, random: np.random.Generator
) -> Callable[[], float]:
    def draw() -> float:
        chosen = figures[random.integers(len(figures), size=len(figures))]
        return _difference([(float(a), float(b)) for a, b in chosen], metric)

    return draw


def _draw_views(
    values: Sequence[tuple[Sequence[float], Sequence[float]]],
    metric: Metric,
    random: np.random.Generator,
) -> Callable[[], float]:
    arrays = [(np.array(a), np.array(b)) for a, b in values]

    def draw() -> float:
        figures = []
        for a, b in arrays:
            chosen = random.integers(len(a), size=len(a))
            figures.append((metric.within(a[chosen].tolist()), metric.within(b[chosen].tolist())))
        return _difference(figures, metric)

    return draw
