"""The baselines that stand beside a model in the tables, and why some of them have no figures."""

from collections.abc import Sequence

from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.baselines.colmap_solver import MAX_VIEWS, ColmapSolver
from distill3r_core.evaluation.localization.localization_metrics import LOCALIZATION_METRICS
from distill3r_core.evaluation.predictions import Unpredicted
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.scores import metrics_of
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.paths import RESULTS
from distill3r_core.report import Progress
from distill3r_core.stages.evaluate.own_caches import training_frames_of
from distill3r_core.stages.evaluate.prepared_evaluation import PreparedEvaluation
from distill3r_core.stages.evaluate.scored_baseline import WITHOUT_RUN, ScoredBaseline
from distill3r_core.stages.evaluate.settings import EvalSettings

SOLVED = RESULTS / "eval" / ".colmap"  # COLMAP's results, for every evaluation of the same images


def open_baselines(
    settings: EvalSettings, protocol: Protocol, evaluation: PreparedEvaluation, progress: Progress
) -> list[ScoredBaseline]:
    """The baselines, with the training frames of the model that is scored."""
    student, training, without = evaluation.model.student, None, WITHOUT_RUN
    if student is not None:
        found = training_frames_of(student)
        if isinstance(found, Unpredicted):
            without = found.reason
        else:
            training = found
    colmap = None
    if settings.uses_colmap and _measures_poses(protocol):
        longest = None if settings.colmap else MAX_VIEWS
        colmap = ColmapSolver(SOLVED, progress, evaluation.views, longest)
    return [
        ScoredBaseline(
            name,
            training,
            # `--predict constant` is a baseline itself: it is scored once.
            same=BASELINES[name].predict is evaluation.model.predict,
            colmap=colmap,
            without_training=without,
        )
        for name in BASELINES
        if colmap is not None or not BASELINES[name].needs_colmap
    ]


def baseline_notes(
    settings: EvalSettings, protocol: Protocol, baselines: Sequence[ScoredBaseline]
) -> list[str]:
    """Why rows are missing, have no figures, or are of a part of the views: a line for each."""
    lines = []
    if settings.colmap is None and _measures_poses(protocol) and not pnp_available():
        lines.append(
            "no row of COLMAP's poses: the extra 'colmap' is not installed (pip install "
            "'distill3r[colmap]'); --no-colmap leaves out this line"
        )
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for baseline in baselines:
        by_reason: dict[str, list[str]] = {}
        for sequence, reason in baseline.reasons.items():
            by_reason.setdefault(reason, []).append(sequence)
        for reason, sequences in by_reason.items():
            found.setdefault((reason, tuple(sequences)), []).append(baseline.record.title)
    for (reason, sequences), titles in found.items():
        others = len(sequences) - 1
        more = f" and {others} more" if others else ""
        lines.append(f"{', '.join(titles)}: {reason} ({sequences[0]}{more})")
    return lines


def _measures_poses(protocol: Protocol) -> bool:
    """Whether poses without a place in the scene have a figure."""
    return any(
        metric.of_poses and metric not in LOCALIZATION_METRICS for metric in metrics_of(protocol)
    )
