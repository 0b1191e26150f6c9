"""How sure the difference of two models is: paired differences with bootstrap intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill3r_core.evaluation.metric_record import Metric
from distill3r_core.evaluation.protocols.record import Aggregation
from distill3r_core.evaluation.scores import SequenceScore, groups_of

DRAWS = 2000
LEVEL = 0.95
MIN_SEQUENCES = 5  # of fewer, views are drawn instead: two sequences say nothing of a third


@dataclass(frozen=True)
class PairedDifference:
    """A figure of another model minus that of the first, with its interval.

    Args:
        drawn: What was drawn with replacement, for both models alike: sequences; or, of metrics
            that have a value for each view or for each pair of views, views within each sequence.
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
    aggregation: Aggregation = "sequences",
    draws: int = DRAWS,
    seed: int = 0,
) -> PairedDifference | None:
    """Compare two models on the same views, by the percentiles of a bootstrap (Efron, 1979).

    Args:
        first: Scores of the first model.
        other: Scores of the other one.
        aggregation: How figures of data sets are reduced, as `figures_of` does it. Sequences that
            are pooled are drawn within their group.

    Returns:
        In the unit of the figure. None where the models were not scored on the same views of the
        same sequences, a figure is missing or not finite, or nothing can be drawn.
    """
    views = [[(one.name, one.views, one.frames) for one in side] for side in (first, other)]
    if views[0] != views[1] or not first:
        return None
    sides: list[list[np.ndarray]] = []
    for side in (first, other):
        values = [score.values[metric.name] for score in side]
        known = [np.array(one) for one in values if one is not None]
        if len(known) < len(values):
            return None
        sides.append(known)
    random, groups = np.random.default_rng(seed), groups_of(first, metric, aggregation)
    if len(first) >= MIN_SEQUENCES:
        drawn: Literal["sequences", "views"] = "sequences"
        draw = _draw_sequences(sides, groups, metric, random)
    else:
        parts = _parts_of_views(sides, [score.views for score in first])
        if parts is None or min(score.views for score in first) < MIN_SEQUENCES:
            return None
        draw, drawn = _draw_views(sides, parts, groups, metric, random), "views"
    difference = _difference([_group_figures(side, groups, metric) for side in sides], metric)
    if not math.isfinite(difference):
        return None
    found = np.array([_finite(draw) if metric.pooled else draw() for _ in range(draws)])
    if not np.isfinite(found).all():
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    factor = metric.unit.factor
    return PairedDifference(factor * difference, factor * float(low), factor * float(high), drawn)


def _finite(draw: Callable[[], float]) -> float:
    """The next draw that has anything to count, as all that was measured together has."""
    while not math.isfinite(found := draw()):
        pass
    return found


def _group_figures(
    values: Sequence[np.ndarray], groups: Sequence[Sequence[int]], metric: Metric
) -> list[float]:
    """The figure of each group of sequences, whose values are pooled."""
    return [
        metric.within(np.concatenate([values[index] for index in group]).tolist())
        for group in groups
    ]


def _difference(figures: Sequence[Sequence[float]], metric: Metric) -> float:
    first, other = figures
    return metric.over(other) - metric.over(first)


def _draw_sequences(
    sides: Sequence[Sequence[np.ndarray]],
    groups: Sequence[Sequence[int]],
    metric: Metric,
    random: np.random.Generator,
) -> Callable[[], float]:
    if all(len(group) == 1 for group in groups):  # nothing is pooled: figures are drawn
        figures = np.array([_group_figures(side, groups, metric) for side in sides])

        def draw() -> float:
            chosen = figures[:, random.integers(len(groups), size=len(groups))]
            return _difference(chosen.tolist(), metric)

        return draw

    def draw_pooled() -> float:
        chosen = [
            [group[k] for k in random.integers(len(group), size=len(group))] for group in groups
        ]
        return _difference([_group_figures(side, chosen, metric) for side in sides], metric)

    return draw_pooled


def _parts_of_views(
    sides: Sequence[Sequence[np.ndarray]], views: Sequence[int]
) -> list[np.ndarray] | None:
    """Where the values of views are, by sequence: (N,), or (N, N) of a value for each pair.

    A view makes no pair with itself: -1. None where values are of something else.
    """
    parts = []
    for index, count in enumerate(views):
        lengths = {len(side[index]) for side in sides}
        if lengths == {count}:
            parts.append(np.arange(count))
        elif lengths == {count * (count - 1) // 2}:
            pairs = np.full((count, count), -1)
            pairs[np.triu_indices(count, 1)] = np.arange(count * (count - 1) // 2)
            parts.append(np.maximum(pairs, pairs.T))
        else:
            return None
    return parts


def _draw_views(
    sides: Sequence[Sequence[np.ndarray]],
    parts: Sequence[np.ndarray],
    groups: Sequence[Sequence[int]],
    metric: Metric,
    random: np.random.Generator,
) -> Callable[[], float]:
    def values_of_some(part: np.ndarray) -> np.ndarray:
        """Where the values of views are that are drawn, and of the pairs that they make."""
        while True:
            chosen = random.integers(len(part), size=len(part))
            if part.ndim == 1:
                return chosen
            found = part[np.ix_(chosen, chosen)][np.triu_indices(len(part), 1)]
            if (found >= 0).any():  # one view alone makes no pair
                return found[found >= 0]

    def draw() -> float:
        chosen = [values_of_some(part) for part in parts]
        drawn = [[one[at] for one, at in zip(side, chosen, strict=True)] for side in sides]
        return _difference([_group_figures(side, groups, metric) for side in drawn], metric)

    return draw
