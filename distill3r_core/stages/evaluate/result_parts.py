"""What a result holds beside the figures of its models."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from distill3r_core.evaluation.paired_differences import paired_difference
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.scores import SequenceScore, figures_of, metrics_of
from distill3r_core.stages.evaluate.prepared_evaluation import PreparedEvaluation
from distill3r_core.stages.evaluate.settings import EvalSettings


def own_rules(settings: EvalSettings) -> dict[str, str]:
    """What the user has changed about the ground truth, in words."""
    if settings.poses is None:
        return {}
    return {
        "true poses": f"of {settings.poses}, in place of the data's; its frames alone. Places in a "
        "scene and the nearest training frame: as if they were in the frame of the run's own poses"
    }


def figures_by(
    key: Callable[[SequenceScore], str], scores: Sequence[SequenceScore], protocol: Protocol
) -> dict[str, dict[str, float | None]]:
    """The figures of the sequences that have a key in common, by that key."""
    found: dict[str, list[SequenceScore]] = {}
    for score in scores:
        found.setdefault(key(score), []).append(score)
    return {name: figures_of(some, protocol) for name, some in found.items()}


def differences_of(
    first: Sequence[SequenceScore], other: Sequence[SequenceScore], protocol: Protocol
) -> dict[str, dict[str, Any]]:
    """Paired differences of another model from the first, by metric, where they are known."""
    found = {
        metric.name: paired_difference(first, other, metric, aggregation=protocol.aggregation)
        for metric in metrics_of(protocol)
    }
    return {name: asdict(one) for name, one in found.items() if one is not None}


def missing_figures(scores: Sequence[SequenceScore], protocol: Protocol) -> dict[str, list[str]]:
    """Sequences for which a metric has no figure; a mean over the others would be of other data."""
    whole = figures_of(scores, protocol) if scores else {}
    # Of what is pooled, sequences with nothing to count leave the figure as it is.
    known = {m.name for m in metrics_of(protocol) if m.pooled and whole.get(m.name) is not None}
    found: dict[str, list[str]] = {}
    for score in scores:
        for name, figure in figures_of([score], protocol).items():
            if figure is None and name not in known:
                found.setdefault(name, []).append(score.name)
    return found


def published_rows(
    settings: EvalSettings,
    protocol: Protocol,
    layout: str,
    scores: Sequence[SequenceScore],
    grid: tuple[int, int],
) -> dict[str, dict[str, float]]:
    """Published figures of the same data as they are, all of them and nothing else, at the grid."""
    published = protocol.published.get(layout)
    if published is None or settings.changes_truth:
        return {}
    names, views = zip(*((score.name, score.views) for score in scores), strict=True)
    rows = published.rows_beside(names, sum(views), grid)
    return {row.name: dict(row.figures) for row in rows}


def of_other_truths(prepared: Sequence[PreparedEvaluation]) -> list[bool]:
    """Which models are scored against samples or frames of their run that are not the first's.

    Frames of a data set are the same for all; what a model leaves out shows in their names.
    """
    first = prepared[0]
    return [not one.layout and one.digest != first.digest for one in prepared]
