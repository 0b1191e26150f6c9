"""The baselines that stand beside a model in the tables, and why some of them have no figures."""

from collections.abc import Sequence

from distill3r_core.errors import ConflictError
from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.baselines.colmap_solver import MAX_VIEWS, ColmapSolver
from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
from distill3r_core.evaluation.localization.localization_metrics import LOCALIZATION_METRICS
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.scores import metrics_of
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.paths import RESULTS
from distill3r_core.report import Progress
from distill3r_core.runs.student_file import StudentFile, cache_paths
from distill3r_core.stages.evaluate.prepared_evaluation import PreparedEvaluation, check_caches
from distill3r_core.stages.evaluate.scored_baseline import WITHOUT_TRAINING, ScoredBaseline
from distill3r_core.stages.evaluate.settings import EvalSettings

SOLVED = RESULTS / "eval" / ".colmap"  # COLMAP's results, for every evaluation of the same images


def open_baselines(
    settings: EvalSettings, protocol: Protocol, evaluation: PreparedEvaluation, progress: Progress
) -> list[ScoredBaseline]:
    """The baselines, with the training frames of the model that is scored."""
    student, training, without = evaluation.model.student, None, WITHOUT_TRAINING
    if student is not None:
        paths = cache_paths(student)
        where = ", ".join(map(str, paths)) or "its path is not known"
        training = TrainingFrames.of_run(paths, size=student.fit.resized)
        if training is None:
            progress.note(f"no baselines of the training frames: cannot read the cache ({where})")
        elif not _is_of_run(training, student):
            training, without = None, f"the run learned from other samples than {where} holds"
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


def _is_of_run(training: TrainingFrames, student: StudentFile) -> bool:
    """Whether these are the frames that a student learned from, as far as its run says."""
    try:
        check_caches(training.cache, student)
    except ConflictError:
        return False
    return True


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
