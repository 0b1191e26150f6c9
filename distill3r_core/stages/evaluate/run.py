"""Score a student, the truth or a plane against ground truth, beside floors that know nothing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core import config, results
from distill3r_core.errors import (
    ConfigError,
    InputMissingError,
    NothingUsableError,
    OutOfMemoryError,
)
from distill3r_core.evaluation.floors import FLOORS
from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
from distill3r_core.evaluation.scores import (
    SequenceScore,
    as_plain,
    mean_metrics,
    score_sequence,
    units,
)
from distill3r_core.files import write_text
from distill3r_core.paths import RESULTS, RUNS, newest_run
from distill3r_core.profiling import OutOfRoom, machine, memory_limits, pick_device
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.runs.student_file import StudentFile, open_student
from distill3r_core.stages.evaluate.floors import TrainingFrames, plane
from distill3r_core.stages.evaluate.job import (
    EvalSettings,
    Job,
    cache_path,
    job_of_data,
    job_of_validation,
)
from distill3r_core.stages.evaluate.picture import draw_views
from distill3r_core.stages.evaluate.report import tables
from distill3r_core.stages.evaluate.truth import Truth
from distill3r_core.types import PointMaps

RESULT, PICTURE = "result.json", "views.png"
_PLANE = "constant_depth"  # the floor that `--predict constant` is


def evaluate(
    settings: EvalSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Score point maps by a protocol.

    Args:
        settings: What is scored, and against what.
        overwrite: Replace another result in `settings.output`.
        progress: Reports frames and sequences.

    Raises:
        ConfigError: An unknown protocol or layout.
        ConflictError: `settings.output` holds another result.
        InputMissingError: A run, its cache or the data are not there.
        NothingUsableError: No frame is left to be scored.
    """
    progress = progress or Silent()
    protocol, device = PROTOCOLS[settings.protocol], pick_device(settings.device)
    student = None
    if settings.run is None and settings.predict == "student" and newest_run() is None:
        raise InputMissingError(
            f"no run in {RUNS}/ to score",
            hint="make one with `distill3r train`, name a run or a weight file "
            "(`distill3r eval RUN`), or score a plane: --predict constant",
        )
    if settings.predict == "student" or settings.data is None or settings.run is not None:
        # In float32 on every device: a score is not to depend on where it was computed.
        student = open_student(settings.run, device, "float32")
        _refuse_size(settings, student)
    if settings.data is not None:
        job = job_of_data(settings, settings.data, protocol, student, progress)
    else:
        assert student is not None, "validation samples are those of a run"
        job = job_of_validation(settings, student)

    plain = config.as_plain(settings)
    identity = {
        "settings": {
            key: value for key, value in plain.items() if key not in ("output", "device", "run")
        },
        "model": None if student is None else student.digest,
        "truth": job.digest,
    }
    default = RESULTS / "eval" / f"{job.label}-{job.source}-{protocol.name}"
    place = results.claim(default, chosen=settings.output, identity=identity, overwrite=overwrite)
    if place.finished:
        result = json.loads((place.folder / RESULT).read_text(encoding="utf-8"))
        return _report(plain, result, place.folder, job, finished_before=True)

    result = _score(settings, protocol, job, student, place.folder, progress)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(place.folder / RESULT, text + "\n")
    results.write_record(
        place.folder, identity=identity, settings=plain, machine=machine(device), files=[RESULT]
    )
    return _report(plain, result, place.folder, job, finished_before=False)


def _refuse_size(settings: EvalSettings, student: StudentFile) -> None:
    if settings.size is not None:
        raise ConfigError(
            f"size {settings.size}: {student.label} brings its own grid",
            hint="leave the size out, or the run: --predict truth or constant needs none",
        )


def _score(
    settings: EvalSettings,
    protocol: Protocol,
    job: Job,
    student: StudentFile | None,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Score every sequence, the floors with it; gives the result as plain data."""
    training = None
    if student is not None:
        path = cache_path(student)
        training = TrainingFrames.of_run(path, size=student.fit.resized)
        if training is None:
            where = path or "which is not known"
            progress.note(f"no floors of the training frames: no cache to be read ({where})")
    scored: list[SequenceScore] = []
    floors: dict[str, list[SequenceScore | None]] = {name: [] for name in FLOORS}
    unit = "m"
    beside = sum(_is_scored(name, settings, training) for name in FLOORS)
    progress.begin("score", total=job.views * (1 + beside), unit="maps")
    for truth in job.truths:
        unit = "none" if truth.unit == "none" else unit
        predicted = _predict(settings, student, truth)
        scored.append(_score_one(truth, predicted, progress))
        figures = scored[-1].metrics()
        progress.advance(0, acc=figures["acc"], comp=figures["comp"])
        for name, found in floors.items():
            if _is_scored(name, settings, training):
                found.append(_floor_score(name, truth, training, progress))
            else:
                found.append(scored[-1] if name == _PLANE else None)
        if len(scored) == 1 and settings.predict == "student":
            draw_views(folder / PICTURE, truth, predicted, scored[0])
    if not scored:
        raise NothingUsableError("no view has enough valid pixels to be scored")
    rows, columns = job.grid
    return {
        "protocol": protocol.name,
        "rules": dict(protocol.rules),
        "predict": settings.predict,
        "data": job.source,
        "layout": job.layout,
        "grid": f"{rows}x{columns}",
        "views": sum(len(one.views) for one in scored),
        "seen_in_training": job.seen,
        "failed": [{"item": one.item, "reason": one.reason} for one in job.failed],
        "metrics": mean_metrics(scored),
        "units": units(unit),
        "floors": {name: _floor_metrics(found) for name, found in floors.items()},
        "published": {name: dict(v) for name, v in protocol.published.get(job.layout, {}).items()},
        "sequences": as_plain(scored),
    }


def _predict(
    settings: EvalSettings, student: StudentFile | None, truth: Truth
) -> Float[Tensor, "N H W 3"]:
    if settings.predict == "truth":
        return truth.points
    if settings.predict == "constant" or student is None:
        return plane(truth)
    images = (truth.images.float() / 255)[None].to(student.device)
    try:
        with memory_limits(), torch.inference_mode():
            maps = student.student(images, head="local")
    except OutOfRoom as error:
        raise OutOfMemoryError(
            f"{truth.name}: {len(truth.view_names)} views do not fit into the memory of "
            f"{student.device}",
            hint="--device cpu has another memory",
        ) from error
    assert isinstance(maps, PointMaps) and maps.points_local is not None
    return maps.points_local[0].cpu()


def _score_one(
    truth: Truth, predicted: Float[Tensor, "N H W 3"], progress: Progress
) -> SequenceScore:
    return score_sequence(
        truth.name,
        predicted,
        truth.points,
        truth.mask,
        view_names=truth.view_names,
        on_view=progress.advance,
    )


def _is_scored(floor: str, settings: EvalSettings, training: TrainingFrames | None) -> bool:
    """Whether a floor needs scores of its own: the plane has them already where it is predicted."""
    if floor == _PLANE:
        return settings.predict != "constant"
    return training is not None


def _floor_score(
    name: str, truth: Truth, training: TrainingFrames | None, progress: Progress
) -> SequenceScore | None:
    """What a floor scores on a sequence; None where it has nothing to say."""
    if name == _PLANE:
        return _score_one(truth, plane(truth), progress)
    predicted = None if training is None else training.predict(name, truth)
    if predicted is None:
        progress.advance(len(truth.view_names))
        return None
    return _score_one(truth, predicted, progress)


def _floor_metrics(found: Sequence[SequenceScore | None]) -> dict[str, float] | None:
    """The figures of a floor; None where it has nothing to say about some sequence."""
    known = [score for score in found if score is not None]
    return mean_metrics(known) if len(known) == len(found) else None


def _report(
    plain: Mapping[str, Any],
    result: Mapping[str, Any],
    folder: Path,
    job: Job,
    *,
    finished_before: bool,
) -> Report:
    names = (RESULT, results.RECORD, PICTURE)
    notes = list(job.notes)
    if finished_before:
        notes.append(f"scored before: {folder}")
    elif result["published"]:
        notes.append("published figures are means over all test sequences of the data set")
    return Report(
        settings=plain,
        result=result,
        files=[folder / name for name in names if (folder / name).is_file()],
        failed=[Failure(**one) for one in result.get("failed", ())],
        tables=tables(result, label=job.label),
        notes=notes,
        finished_before=finished_before,
        machine=results.read_record(folder)["machine"],
    )
