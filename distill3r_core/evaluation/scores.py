"""Score predictions of sequences by a protocol, and reduce them to the figures of a data set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill3r_core.evaluation.metric_record import Comparison, Metric, Values
from distill3r_core.evaluation.metrics import METRICS
from distill3r_core.evaluation.protocols.alignments import UnalignedError
from distill3r_core.evaluation.protocols.record import Aggregation, Protocol
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.metrics import AlignedClouds
from distill3r_core.types import RawMaps

Figures = dict[str, float | None]


@dataclass(frozen=True)
class SequenceScore:
    """What a protocol's metrics measured on a sequence.

    Args:
        values: By metric, one value per view, pair or point; None where it could not be measured.
        frames: Names of the views.
        unaligned: Why there are no clouds, where the prediction cannot be aligned.
    """

    name: str
    views: int
    values: Mapping[str, Values | None]
    source: str = ""  # label of its cache, where a run has several
    frames: tuple[str, ...] = ()
    unaligned: str | None = None


def score_sequence(
    truth: Truth,
    maps: RawMaps,
    protocol: Protocol,
    *,
    scaled: bool = True,
    on_view: Callable[[], None] = lambda: None,
) -> SequenceScore:
    """Measure the metrics of a protocol on the prediction of a sequence.

    Args:
        maps: Its prediction, on the truth's grid.
        scaled: Whether maps and poses have one unit; otherwise what depends on both is None.
        on_view: Called once per view: aligning one takes a second on a fine grid.

    Returns:
        The score. Metrics of clouds are None where the prediction cannot be aligned.

    Raises:
        FailedError: The truth lacks what the alignment needs.
    """
    clouds: list[AlignedClouds] = []
    unaligned = None
    together = maps if scaled else replace(maps, points_global=None, global_from_local=None)
    try:
        for pair in protocol.alignment.align(truth, together):
            clouds.append(pair)
            if len(clouds) <= len(truth.view_names):
                on_view()
    except UnalignedError as error:  # baselines of depth alone, models that lost a view
        clouds, unaligned = [], str(error)
    for _ in range(len(truth.view_names) - len(clouds)):
        on_view()
    comparison = Comparison(truth, maps, tuple(clouds))
    values = {
        metric.name: _measured(metric, comparison) if scaled or not metric.of_placed_maps else None
        for metric in metrics_of(protocol)
    }
    return _score_of(truth, values, unaligned)


def _score_of(
    truth: Truth, values: Mapping[str, Values | None], unaligned: str | None = None
) -> SequenceScore:
    frames = truth.view_names
    return SequenceScore(truth.name, len(frames), values, truth.source, frames, unaligned)


def _measured(metric: Metric, comparison: Comparison) -> Values | None:
    """The values of a metric; None where there are none, which nothing can be reduced from."""
    values = metric.measure(comparison)
    return None if values is None or len(values) == 0 else values


def score_poses(
    truth: Truth, maps: RawMaps, protocol: Protocol, *, scaled: bool = True
) -> SequenceScore:
    """Measure the metrics that depend on poses alone; the others are None.

    Args:
        scaled: Whether maps and poses have one unit; otherwise what depends on both is None.
    """
    return _score_some(
        truth,
        maps,
        protocol,
        lambda metric: metric.of_poses and (scaled or not metric.of_placed_maps),
    )


def score_placed(truth: Truth, maps: RawMaps, protocol: Protocol) -> SequenceScore:
    """Measure what depends on where maps are placed: where clouds do, every metric."""
    if protocol.alignment.places:
        return score_sequence(truth, maps, protocol)
    return _score_some(
        truth, maps, protocol, lambda metric: metric.of_poses or metric.of_placed_maps
    )


def _score_some(
    truth: Truth, maps: RawMaps, protocol: Protocol, wanted: Callable[[Metric], bool]
) -> SequenceScore:
    """Measure metrics that need no aligned clouds; the others are None."""
    comparison = Comparison(truth, maps, ())
    values = {
        metric.name: _measured(metric, comparison) if wanted(metric) else None
        for metric in metrics_of(protocol)
    }
    return _score_of(truth, values)


def metrics_of(protocol: Protocol) -> list[Metric]:
    """The records of a protocol's metrics."""
    return [METRICS[name] for name in protocol.metrics]


def columns_of(protocol: Protocol) -> list[Metric]:
    """The records of the metrics in a protocol's table."""
    shown = protocol.columns or protocol.metrics
    return [METRICS[name] for name in protocol.metrics if name in shown]


def figures_of(sequences: Sequence[SequenceScore], protocol: Protocol) -> Figures:
    """The figures of a data set, or of a part of it.

    Args:
        sequences: At least one, each with at least one view.

    Returns:
        By metric; None where some sequence lacks what it needs, or has a prediction that is not
        finite: a mean over the others would be of another data set.
    """
    figures: Figures = {}
    for metric in metrics_of(protocol):
        measured = [score.values[metric.name] for score in sequences]
        known = [values for values in measured if values is not None]
        if len(known) < len(measured):
            figures[metric.name] = None
            continue
        groups = groups_of(sequences, metric, protocol.aggregation)
        figure = metric.over(
            [
                metric.within([value for index in group for value in known[index]])
                for group in groups
            ]
        )
        # Infinity and NaN are no figures: a predicted pose or point is not a number.
        figures[metric.name] = metric.unit.factor * figure if math.isfinite(figure) else None
    return figures


def groups_of(
    sequences: Sequence[SequenceScore], metric: Metric, aggregation: Aggregation
) -> list[list[int]]:
    """Which sequences' values are pooled before figures are averaged."""
    if metric.pooled:
        aggregation = "pooled"
    if aggregation == "sequences":
        return [[index] for index in range(len(sequences))]
    groups: dict[str, list[int]] = {}
    for index, score in enumerate(sequences):
        key = "" if aggregation == "pooled" else score.name.rpartition("/")[0]
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def units_of(protocol: Protocol, unit: str) -> dict[str, str]:
    """The unit of every figure.

    Args:
        unit: Unit of the truth: "m", or "none" where it has no known unit.
    """
    return {metric.name: metric.unit.named(unit) for metric in metrics_of(protocol)}


def as_plain(sequences: Sequence[SequenceScore], protocol: Protocol) -> list[dict[str, Any]]:
    """Sequences as plain data for a result file."""
    return [
        {
            "name": score.name,
            "views": score.views,
            "frames": list(score.frames),
            "metrics": figures_of([score], protocol),
        }
        for score in sequences
    ]
