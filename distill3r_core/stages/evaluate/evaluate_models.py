"""Score models against ground truth, beside baselines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core import config, results
from distill3r_core.errors import DamageError, NothingUsableError
from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
from distill3r_core.evaluation.scores import (
    SequenceScore,
    as_plain,
    columns_of,
    figures_of,
    score_placed,
    score_sequence,
    units_of,
)
from distill3r_core.files import read_own, write_text
from distill3r_core.geometry.pose_errors import pairs_without_baseline
from distill3r_core.paths import RESULTS
from distill3r_core.profiling import machine, pick_device
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.stages.evaluate.baseline_rows import baseline_notes, open_baselines
from distill3r_core.stages.evaluate.main_phase import MainPhase
from distill3r_core.stages.evaluate.prepared_evaluation import (
    PreparedEvaluation,
    prepare_data,
    prepare_held_out,
    prepare_validation,
)
from distill3r_core.stages.evaluate.refined_poses import (
    REFINED_RULE,
    UNREFINED_RULE,
    RefinedPoses,
)
from distill3r_core.stages.evaluate.result_files import write_csv, write_markdown, write_page
from distill3r_core.stages.evaluate.result_notes import result_notes
from distill3r_core.stages.evaluate.result_parts import (
    differences_of,
    figures_by,
    missing_figures,
    of_other_truths,
    own_rules,
    published_rows,
)
from distill3r_core.stages.evaluate.score_tables import tables
from distill3r_core.stages.evaluate.scored_baseline import ScoredBaseline
from distill3r_core.stages.evaluate.scored_model import labels_of, open_models, scene_problem
from distill3r_core.stages.evaluate.settings import EvalSettings
from distill3r_core.stages.evaluate.view_image import ViewGallery
from distill3r_core.types import Unit

RESULT_FORM = 7  # what a result holds; one of another form is scored again
RESULT, VIEWS_IMAGE, WORST_IMAGE = "result.json", "views.png", "worst.png"
CSV, MARKDOWN, PAGE = "figures.csv", "tables.md", "report.html"


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
        ExtraMissingError: COLMAP's poses are asked for, and pycolmap is not installed.
        InputMissingError: A run, its cache or the data are not there.
        NothingUsableError: No frame is left to be scored.
    """
    progress = progress or Silent()
    protocol, device = PROTOCOLS[settings.protocol], pick_device(settings.device)
    uses_colmap = settings.uses_colmap  # refused before any work where the extra is missing
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
    elif protocol.source == "held-out":
        prepared = [prepare_held_out(settings, protocol, model) for model in models]
    else:
        prepared = [prepare_validation(settings, model) for model in models]

    plain = config.as_plain(settings)
    left_out = {"output", "device", "models", "colmap"}
    # Results older than these have none of them.
    left_out |= {name for name in vars(settings.conventions) if plain[name] is None}
    left_out |= {"poses"} if settings.poses is None else set()
    left_out |= set() if settings.teacher else {"teacher"}
    identity = {
        "form": RESULT_FORM,
        "settings": {key: value for key, value in plain.items() if key not in left_out},
        # A result without the extra is another one; so is one of sequences of any length.
        "colmap": settings.colmap or (uses_colmap and "short"),
        "models": [model.identity for model in models],
        "truths": [evaluation.digest for evaluation in prepared],
    }
    name = "-vs-".join(label.replace("/", "-") for label in labels)
    default = RESULTS / "eval" / f"{name}-{prepared[0].source}-{protocol.name}"
    place = results.claim(default, chosen=settings.output, identity=identity, overwrite=overwrite)
    if place.finished:
        result = _read_result(place.folder / RESULT)
        return _report(plain, result, place.folder, prepared, finished_before=True)

    result = _result(settings, protocol, prepared, labels, place.folder, progress)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(place.folder / RESULT, text + "\n")
    _write_files(place.folder, result, protocol)
    results.write_record(
        place.folder, identity=identity, settings=plain, machine=machine(device), files=[RESULT]
    )
    return _report(plain, result, place.folder, prepared, finished_before=False)


def _read_result(path: Path) -> dict[str, Any]:
    """The result that an earlier run wrote.

    Raises:
        DamageError: It is not what was written.
    """
    try:
        result = json.loads(read_own(path))
    except (ValueError, RecursionError):
        result = None
    if not isinstance(result, dict):
        raise DamageError(
            f"{path} is damaged: it holds no result", hint="`--overwrite` makes it again"
        )
    return result


def _write_files(folder: Path, result: Mapping[str, Any], protocol: Protocol) -> None:
    """The result for spreadsheets and people."""
    found = tables(result)
    write_csv(folder / CSV, result)
    write_markdown(folder / MARKDOWN, found, result["rules"])
    images = {"Views": folder / VIEWS_IMAGE, "Worst views": folder / WORST_IMAGE}
    write_page(
        folder / PAGE,
        result,
        found,
        columns_of(protocol),
        {heading: path for heading, path in images.items() if path.is_file()},
    )


@dataclass(frozen=True)
class _Scores:
    """The scores of one model.

    Args:
        unrefined: Scores with the poses that it predicted itself, where `model` has refined ones.
        pairs_without_baseline: Pairs of views whose true translation is zero, in the protocol's
            form of poses.
    """

    model: list[SequenceScore]
    unrefined: list[SequenceScore]
    unit: Unit  # "m" where every truth is in meters
    grid: tuple[int, int]  # rows and columns, landscape
    pairs_without_baseline: int


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
    gallery = ViewGallery(protocol) if settings.predict == "student" else None
    refines = settings.refine and settings.predict == "student"
    refined = {label: RefinedPoses() for label in labels} if refines else {}
    phase = MainPhase(progress)
    baselines = open_baselines(settings, protocol, first, phase)
    scores = _score(protocol, first, baselines, gallery, refined.get(labels[0]), phase)
    if gallery is not None:
        gallery.write(folder / VIEWS_IMAGE, folder / WORST_IMAGE)
    found, unrefined = {labels[0]: scores.model}, {labels[0]: scores.unrefined}
    grids = {labels[0]: scores.grid}
    result = {
        "protocol": protocol.name,
        "rules": {
            **protocol.all_rules(),
            **own_rules(settings),
            "refinement": REFINED_RULE if refines else UNREFINED_RULE,
        },
        "predict": settings.predict,
        "data": first.source,
        "layout": first.layout,
        "grid": "x".join(map(str, scores.grid)),
        "views": sum(score.views for score in scores.model),
        "pairs_without_baseline": scores.pairs_without_baseline,
        "seen_in_training": first.seen,
        "metrics": figures_of(scores.model, protocol),
        "units": units_of(protocol, scores.unit),
        "baselines": {baseline.name: baseline.figures(protocol) for baseline in baselines},
        "baseline_notes": baseline_notes(settings, protocol, baselines),
        "published": published_rows(settings, protocol, first.layout, scores.model, scores.grid),
        "sequences": as_plain(scores.model, protocol),
        "worst_views": [] if gallery is None else gallery.worst_views,
    }
    if protocol.by_data_set:
        result["data_sets"] = figures_by(
            lambda score: score.name.partition("/")[0], scores.model, protocol
        )
    if any(score.source for score in scores.model):
        result["caches"] = figures_by(lambda score: score.source, scores.model, protocol)
    for label, evaluation in zip(labels[1:], others, strict=True):
        scores_of = _score(protocol, evaluation, (), None, refined.get(label), phase)
        found[label], grids[label] = scores_of.model, scores_of.grid
        unrefined[label] = scores_of.unrefined
    result["grids"] = {label: "x".join(map(str, grid)) for label, grid in grids.items()}
    result["models"] = {label: figures_of(one, protocol) for label, one in found.items()}
    result["without_refinement"] = {
        label: figures_of(unrefined[label], protocol) for label, one in refined.items() if one.views
    }
    result["teacher_settings"] = {
        label: evaluation.model.teacher_settings
        for label, evaluation in zip(labels, prepared, strict=True)
        if evaluation.model.teacher_settings is not None
    }
    result["refinement"] = {label: one.facts() for label, one in refined.items()} or None
    result["model_sequences"] = {label: as_plain(one, protocol) for label, one in found.items()}
    other = dict(zip(labels, of_other_truths(prepared), strict=True))
    result["other_truths"] = [label for label in labels if other[label]]
    result["differences"] = {
        label: {} if other[label] else differences_of(scores.model, found[label], protocol)
        for label in labels[1:]
    }
    result["missing"] = missing_figures(scores.model, protocol)
    result["unaligned"] = {
        label: reasons
        for label, scored in found.items()
        if (reasons := [one.unaligned for one in scored if one.unaligned is not None])
    }
    # Last, for some truths are read as they are scored. What several models cannot read is one.
    failed = dict.fromkeys(one for evaluation in prepared for one in evaluation.failed)
    result["failed"] = [{"item": one.item, "reason": one.reason} for one in failed]
    return result


def _score(
    protocol: Protocol,
    evaluation: PreparedEvaluation,
    baselines: Sequence[ScoredBaseline],
    gallery: ViewGallery | None,
    refined: RefinedPoses | None,
    phase: MainPhase,
) -> _Scores:
    """Score a model and the baselines, sequence by sequence.

    Raises:
        NothingUsableError: No sequence can be scored.
    """
    scored: list[SequenceScore] = []
    unrefined: list[SequenceScore] = []
    unit, grid, without_baseline = "m", evaluation.model.grid, 0
    maps_per_view = 1 + sum(baseline.has_maps for baseline in baselines)
    phase.start("score", total=evaluation.views * maps_per_view, unit="maps")
    for truth in evaluation.truths:
        unit, grid = "none" if truth.unit == "none" else unit, grid or truth.size
        if truth.poses is not None:
            without_baseline += pairs_without_baseline(truth.poses, form=protocol.poses.form)
        predicted = evaluation.model.predict(truth)
        assert predicted is not None, "a model predicts every sequence"
        maps = predicted
        if refined is not None:
            file = evaluation.model.student
            maps = refined.refine(truth, predicted, None if file is None else file.student)
            unrefined.append(score_placed(truth, predicted, protocol))
        scored.append(score_sequence(truth, maps, protocol, on_view=phase.advance))
        figures = figures_of(scored[-1:], protocol)
        phase.advance(
            0,
            **{
                metric.heading: value
                for metric in columns_of(protocol)
                if (value := figures[metric.name]) is not None
            },
        )
        for baseline in baselines:
            baseline.score(truth, maps, scored[-1], protocol, phase)
            phase.resume()
        if gallery is not None:
            gallery.add(truth, maps, scored[-1])
        # Before the next sequence is read: of a large data set no two fit into memory.
        del truth, predicted, maps
    if not scored:
        why = "".join(f": {one.item}: {one.reason}" for one in evaluation.failed[:1])
        raise NothingUsableError(f"no view has enough valid pixels to be scored{why}")
    assert grid is not None
    return _Scores(scored, unrefined, unit, grid, without_baseline)


def _report(
    plain: Mapping[str, Any],
    result: Mapping[str, Any],
    folder: Path,
    prepared: Sequence[PreparedEvaluation],
    *,
    finished_before: bool,
) -> Report:
    names = (RESULT, PAGE, MARKDOWN, CSV, results.RECORD, VIEWS_IMAGE, WORST_IMAGE)
    protocol = PROTOCOLS[result["protocol"]]
    notes = list(dict.fromkeys(note for evaluation in prepared for note in evaluation.notes))
    if result["predict"] == "student":
        notes += [
            f"{evaluation.model.label} has no place in the scene: {problem}"
            for evaluation in prepared
            if (problem := scene_problem(evaluation.model, protocol)) is not None
        ]
    notes += result_notes(result)
    notes += result["baseline_notes"]
    if finished_before:
        notes.append(f"scored before: {folder}")
    count = 1 + any(result["differences"].values())  # a table of differences is shown too
    found = tables(result)
    return Report(
        settings=plain,
        result=result,
        files=[folder / name for name in names if (folder / name).is_file()],
        failed=[Failure(**one) for one in result.get("failed", ())],
        tables=found[:count],
        details=found[count:],
        notes=notes,
        finished_before=finished_before,
        machine=results.read_record(folder)["machine"],
    )
