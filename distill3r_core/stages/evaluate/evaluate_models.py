"""Score models against ground truth, beside baselines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distill3r_core import config, results
from distill3r_core.errors import NothingUsableError
from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.predictions import Prediction
from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
from distill3r_core.evaluation.scores import (
    SequenceScore,
    as_plain,
    figures_of,
    score_sequence,
    units_of,
)
from distill3r_core.evaluation.training_frames import TrainingFrames
from distill3r_core.files import write_text
from distill3r_core.paths import RESULTS
from distill3r_core.profiling import machine, pick_device
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.stages.evaluate.prepared_evaluation import (
    PreparedEvaluation,
    cache_paths,
    prepare_data,
    prepare_validation,
)
from distill3r_core.stages.evaluate.score_tables import tables
from distill3r_core.stages.evaluate.scored_model import labels_of, open_models
from distill3r_core.stages.evaluate.settings import EvalSettings
from distill3r_core.stages.evaluate.view_image import draw_views
from distill3r_core.types import Unit

RESULT, VIEWS_IMAGE = "result.json", "views.png"


def evaluate(
    settings: EvalSettings,
    *,
    overwrite: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Score point maps by a protocol.

    Args:
        overwrite: Replace another result in `settings.output`.
        trust: Score against data whose parts contradict each other.

    Raises:
        ContradictionError: Depth, poses, intrinsics and images of the data do not fit together.
        ConfigError: An unknown protocol or layout.
        ConflictError: `settings.output` holds another result.
        InputMissingError: A run, its cache or the data are not there.
        NothingUsableError: No frame is left to be scored.
    """
    progress = progress or Silent()
    protocol, device = PROTOCOLS[settings.protocol], pick_device(settings.device)
    models = open_models(settings, protocol, device, progress)
    labels = labels_of(models, settings.models)
    if settings.data is not None:
        prepared = [
            prepare_data(
                settings,
                settings.data,
                protocol,
                model,
                progress,
                trust=trust,
                checked=number > 0,
            )
            for number, model in enumerate(models)
        ]
    else:
        prepared = [prepare_validation(settings, model) for model in models]

    plain = config.as_plain(settings)
    left_out = {"output", "device", "models"}
    # Results older than these have none of them.
    left_out |= {name for name in vars(settings.conventions) if plain[name] is None}
    identity = {
        "settings": {key: value for key, value in plain.items() if key not in left_out},
        "models": [model.digest or model.label for model in models],
        "truths": [evaluation.digest for evaluation in prepared],
    }
    name = "-vs-".join(label.replace("/", "-") for label in labels)
    default = RESULTS / "eval" / f"{name}-{prepared[0].source}-{protocol.name}"
    place = results.claim(default, chosen=settings.output, identity=identity, overwrite=overwrite)
    if place.finished:
        result = json.loads((place.folder / RESULT).read_text(encoding="utf-8"))
        return _report(plain, result, place.folder, prepared, labels, finished_before=True)

    result = _result(settings, protocol, prepared, labels, place.folder, progress)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(place.folder / RESULT, text + "\n")
    results.write_record(
        place.folder, identity=identity, settings=plain, machine=machine(device), files=[RESULT]
    )
    return _report(plain, result, place.folder, prepared, labels, finished_before=False)


@dataclass(frozen=True)
class _Scores:
    """The scores of one model and of the baselines beside it.

    Args:
        baselines: The same by baseline; None for a sequence that it cannot predict.
    """

    model: list[SequenceScore]
    baselines: dict[str, list[SequenceScore | None]]
    unit: Unit  # "m" where every truth is in meters
    grid: tuple[int, int]  # rows and columns, landscape


def _result(
    settings: EvalSettings,
    protocol: Protocol,
    prepared: Sequence[PreparedEvaluation],
    labels: Sequence[str],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Score every model; gives the result as plain data."""
    first, *others = prepared
    image = folder / VIEWS_IMAGE if settings.predict == "student" else None
    baselines = _baselines(first, progress)
    scores = _score(settings, protocol, first, baselines, image, progress)
    result = {
        "protocol": protocol.name,
        "rules": protocol.all_rules(),
        "predict": settings.predict,
        "data": first.source,
        "layout": first.layout,
        "grid": "x".join(map(str, scores.grid)),
        "views": sum(score.views for score in scores.model),
        "seen_in_training": first.seen,
        "failed": [
            {"item": one.item, "reason": one.reason}
            for evaluation in prepared
            for one in evaluation.failed
        ],
        "metrics": figures_of(scores.model, protocol),
        "units": units_of(protocol, scores.unit),
        "baselines": {
            name: _baseline_figures(found, protocol) for name, found in scores.baselines.items()
        },
        "published": {
            name: dict(figures)
            for name, figures in protocol.published.get(first.layout, {}).items()
        },
        "sequences": as_plain(scores.model, protocol),
    }
    if any(score.source for score in scores.model):
        result["caches"] = _figures_by_cache(scores.model, protocol)
    if others:
        result["models"] = {labels[0]: result["metrics"]}
        for label, evaluation in zip(labels[1:], others, strict=True):
            found = _score(settings, protocol, evaluation, {}, None, progress)
            result["models"][label] = figures_of(found.model, protocol)
    return result


def _baselines(evaluation: PreparedEvaluation, progress: Progress) -> dict[str, Prediction | None]:
    """The baselines by name; None for those that need training frames that are not there."""
    student, training = evaluation.model.student, None
    if student is not None:
        paths = cache_paths(student)
        training = TrainingFrames.of_run(paths, size=student.fit.resized)
        if training is None:
            where = ", ".join(map(str, paths)) or "its path is not known"
            progress.note(f"no baselines of the training frames: cannot read the cache ({where})")
    return {
        name: None
        if training is None and BASELINES[name].needs_run
        else partial(BASELINES[name].predict, training=training)
        for name in BASELINES
    }


def _score(
    settings: EvalSettings,
    protocol: Protocol,
    evaluation: PreparedEvaluation,
    baselines: Mapping[str, Prediction | None],
    image: Path | None,
    progress: Progress,
) -> _Scores:
    """Score a model and the baselines, sequence by sequence.

    Raises:
        NothingUsableError: No sequence can be scored.
    """
    scored: list[SequenceScore] = []
    beside: dict[str, list[SequenceScore | None]] = {name: [] for name in baselines}
    # `--predict constant` is a baseline itself: it is scored once.
    same = {name for name in baselines if BASELINES[name].predict is evaluation.model.predict}
    unit, grid = "m", evaluation.model.grid
    maps_per_view = 1 + sum(
        predict is not None and name not in same for name, predict in baselines.items()
    )
    progress.begin("score", total=evaluation.views * maps_per_view, unit="maps")
    for truth in evaluation.truths:
        unit, grid = "none" if truth.unit == "none" else unit, grid or truth.size
        maps = evaluation.model.predict(truth)
        assert maps is not None, "a model predicts every sequence"
        scored.append(score_sequence(truth, maps, protocol, on_view=progress.advance))
        figures = figures_of(scored[-1:], protocol)
        progress.advance(0, **{name: value for name, value in figures.items() if value is not None})
        for name, predict in baselines.items():
            if name in same:
                beside[name].append(scored[-1])
                continue
            guess = None if predict is None else predict(truth)
            if guess is None:
                beside[name].append(None)
                progress.advance(0 if predict is None else len(truth.view_names))
                continue
            beside[name].append(score_sequence(truth, guess, protocol, on_view=progress.advance))
        if len(scored) == 1 and image is not None:
            draw_views(image, truth, maps, scored[0], protocol)
    if not scored:
        raise NothingUsableError("no view has enough valid pixels to be scored")
    assert grid is not None
    return _Scores(scored, beside, unit, grid)


def _figures_by_cache(
    scores: Sequence[SequenceScore], protocol: Protocol
) -> dict[str, dict[str, float | None]]:
    """The figures on the validation samples of each cache, by its label."""
    labels = dict.fromkeys(score.source for score in scores)
    return {
        label: figures_of([score for score in scores if score.source == label], protocol)
        for label in labels
    }


def _baseline_figures(
    found: Sequence[SequenceScore | None], protocol: Protocol
) -> dict[str, float | None] | None:
    """The figures of a baseline; None where it cannot predict some sequence."""
    known = [score for score in found if score is not None]
    return figures_of(known, protocol) if len(known) == len(found) else None


def _report(
    plain: Mapping[str, Any],
    result: Mapping[str, Any],
    folder: Path,
    prepared: Sequence[PreparedEvaluation],
    labels: Sequence[str],
    *,
    finished_before: bool,
) -> Report:
    names = (RESULT, results.RECORD, VIEWS_IMAGE)
    notes = list(dict.fromkeys(note for evaluation in prepared for note in evaluation.notes))
    if finished_before:
        notes.append(f"scored before: {folder}")
    elif result["published"]:
        notes.append("published figures are means over all test sequences of the data set")
    return Report(
        settings=plain,
        result=result,
        files=[folder / name for name in names if (folder / name).is_file()],
        failed=[Failure(**one) for one in result.get("failed", ())],
        tables=tables(result, label=labels[0]),
        notes=notes,
        finished_before=finished_before,
        machine=results.read_record(folder)["machine"],
    )
