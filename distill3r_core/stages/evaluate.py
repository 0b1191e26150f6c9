"""Score a student, the truth or a plane against ground truth, beside floors that know nothing."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.config import STRICT
from distill3r_core.data.process import Processing
from distill3r_core.errors import InputMissingError, NothingUsableError, OutOfMemoryError
from distill3r_core.evaluation.floors import FLOORS
from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
from distill3r_core.evaluation.scores import (
    SequenceScore,
    as_plain,
    mean_metrics,
    score_sequence,
    units,
)
from distill3r_core.io.files import write_text
from distill3r_core.io.fit import Fit
from distill3r_core.paths import RESULTS
from distill3r_core.profiling import machine, pick_device
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.stages import outputs
from distill3r_core.stages.bench_plan import parse_size
from distill3r_core.stages.eval_floors import TrainingFrames, plane
from distill3r_core.stages.eval_picture import draw_views
from distill3r_core.stages.eval_report import tables
from distill3r_core.stages.eval_truth import TestData, Truth, read_test_data, read_validation
from distill3r_core.stages.student_file import StudentFile, open_student
from distill3r_core.types import PointMaps

RESULT, PICTURE = "result.json", "views.png"
Predictor = Callable[[Truth], Float[Tensor, "N H W 3"]]


@checked_dataclass(frozen=True, config=STRICT)
class EvalSettings:
    """What is scored, and against what."""

    run: Path | None = None  # a run or a weight file; None: the newest run, where one is needed
    data: Path | None = None  # with ground truth; None: the run's validation samples
    layout: str = "auto"  # of `data`
    protocol: str = "table2"
    predict: Literal["student", "truth", "constant"] = "student"
    size: str | None = None  # of maps that come from no student; None: the protocol's
    device: str = "auto"
    output: Path | None = None  # None: results/eval/<run>-<data>-<protocol>


@dataclass(frozen=True)
class _Job:
    """An evaluation whose inputs are known.

    Args:
        label: Of what is scored.
        source: Of what it is scored against.
        truths: Sequence by sequence.
        count: How many.
        digest: Of the truths.
        grid: Rows and columns, landscape.
        layout: Of the data set; "" for validation samples.
        seen: Frames left out because the student was trained on them.
        failed: Frames left out because they cannot be used.
        notes: Worth saying.
    """

    label: str
    source: str
    truths: Iterable[Truth]
    count: int
    digest: str
    grid: tuple[int, int]
    layout: str = ""
    seen: int = 0
    failed: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


def evaluate(
    settings: EvalSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Score point maps by a protocol.

    Args:
        settings: What is scored, and against what.
        overwrite: Replace another result in `settings.output`.
        progress: Told of frames and sequences.

    Raises:
        ConfigError: An unknown protocol or layout.
        ConflictError: `settings.output` holds another result.
        InputMissingError: A run, its cache or the data are not there.
        NothingUsableError: No frame is left to be scored.
    """
    progress = progress or Silent()
    protocol, device = PROTOCOLS[settings.protocol], pick_device(settings.device)
    student = None
    if settings.predict == "student" or settings.data is None or settings.run is not None:
        student = open_student(settings.run, device)
    if settings.data is not None:
        job = _test_job(settings, settings.data, protocol, student, progress)
    else:
        assert student is not None, "validation samples are those of a run"
        job = _validation_job(settings, student)

    plain = config.as_plain(settings)
    identity = {
        "settings": {
            key: value for key, value in plain.items() if key not in ("output", "device", "run")
        },
        "model": None if student is None else student.digest,
        "truth": job.digest,
    }
    default = RESULTS / "eval" / f"{job.label}-{job.source}-{protocol.name}"
    place = outputs.claim(default, chosen=settings.output, identity=identity, overwrite=overwrite)
    if place.finished:
        result = json.loads((place.folder / RESULT).read_text(encoding="utf-8"))
        return _report(plain, result, place.folder, job, finished_before=True)

    result = _score(settings, protocol, job, student, place.folder, progress)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(place.folder / RESULT, text + "\n")
    outputs.write_record(place.folder, identity=identity, settings=plain, machine=machine(device))
    return _report(plain, result, place.folder, job, finished_before=False)


def _test_job(
    settings: EvalSettings,
    root: Path,
    protocol: Protocol,
    student: StudentFile | None,
    progress: Progress,
) -> _Job:
    """The test frames of a data set, without those that the student was trained on."""
    metadata = None if student is None else student.student.metadata
    pictures: frozenset[str] | None = frozenset()
    if student is not None and settings.predict == "student":
        pictures = _training_pictures(student)
    recorded = metadata.processing if metadata is not None else {}
    size = protocol.grid if settings.size is None else parse_size(settings.size)
    fit = Fit(size=size) if student is None else student.fit
    data = read_test_data(
        root,
        layout=settings.layout,
        protocol=protocol,
        processing=config.validate(Processing, recorded, source="the recorded processing"),
        fit=fit,
        trained_on=pictures or frozenset(),
        progress=progress,
    )
    if not data.truths:
        raise _nothing_left(root, data)
    notes = []
    if pictures is None:
        notes.append("the training frames of this student are not known: none is left out")
    if data.seen:
        notes.append(f"{data.seen} frames left out: the student was trained on them")
    return _Job(
        label=_label(settings, student),
        source=root.resolve().name,
        truths=data.truths,
        count=len(data.truths),
        digest=_digest(content for truth in data.truths for content in truth.contents),
        grid=fit.resized or fit.size,
        layout=data.layout,
        seen=data.seen,
        failed=data.failed,
        notes=tuple(notes),
    )


def _validation_job(settings: EvalSettings, student: StudentFile) -> _Job:
    """A run's validation samples, with what the teacher said as the truth."""
    path = _cache_path(student)
    if path is None:
        raise InputMissingError(
            f"{student.path} does not say which cache it learned from",
            hint="score it against a data set: --data ROOT",
        )
    cache = TeacherCache(path)
    names = cache.names("val")
    if not names:
        raise NothingUsableError(
            f"{path} has no validation samples, so {student.label} has none",
            hint="score it against a data set: --data ROOT",
        )
    planned = {sample.name: sample.content for sample in cache.header.plan}
    fit = student.fit
    return _Job(
        label=_label(settings, student),
        source="validation",
        truths=read_validation(cache, size=fit.resized),
        count=len(names),
        digest=_digest(
            [*names, *(planned[name] for name in names), json.dumps(cache.header.settings)]
        ),
        grid=fit.resized or fit.size,
        notes=(f"against what the teacher {cache.header.teacher} said of {len(names)} samples",),
    )


def _score(
    settings: EvalSettings,
    protocol: Protocol,
    job: _Job,
    student: StudentFile | None,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Score every sequence, the floors with it; gives the result as plain data."""
    training = None
    if student is not None:
        training = TrainingFrames.of_run(_cache_path(student), size=student.fit.resized)
    scored: list[SequenceScore] = []
    floors: dict[str, list[SequenceScore | None]] = {name: [] for name in FLOORS}
    unit = "m"
    progress.begin("score", total=job.count, unit="sequences")
    for truth in job.truths:
        unit = "none" if truth.unit == "none" else unit
        predicted = _predict(settings, student, truth)
        scored.append(_score_one(truth, predicted))
        for name, found in floors.items():
            found.append(_floor_score(name, truth, training))
        figures = scored[-1].metrics()
        progress.advance(acc=figures["acc"], comp=figures["comp"])
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
        with torch.inference_mode():
            maps = student.student(images, head="local")
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"{truth.name}: {len(truth.view_names)} views do not fit into the memory of "
            f"{student.device}",
            hint="--device cpu has another memory",
        ) from error
    assert isinstance(maps, PointMaps)
    return maps.points_local[0].cpu()


def _score_one(truth: Truth, predicted: Float[Tensor, "N H W 3"]) -> SequenceScore:
    return score_sequence(
        truth.name, predicted, truth.points, truth.mask, view_names=truth.view_names
    )


def _floor_score(name: str, truth: Truth, training: TrainingFrames | None) -> SequenceScore | None:
    """What a floor scores on a sequence; None where it has nothing to say."""
    if name == "constant_depth":
        return _score_one(truth, plane(truth))
    predicted = None if training is None else training.predict(name, truth)
    return None if predicted is None else _score_one(truth, predicted)


def _floor_metrics(found: Sequence[SequenceScore | None]) -> dict[str, float] | None:
    """The figures of a floor; None where it has nothing to say about some sequence."""
    known = [score for score in found if score is not None]
    return mean_metrics(known) if len(known) == len(found) else None


def _report(
    plain: Mapping[str, Any],
    result: Mapping[str, Any],
    folder: Path,
    job: _Job,
    *,
    finished_before: bool,
) -> Report:
    names = (RESULT, outputs.RECORD, PICTURE)
    notes = list(job.notes)
    if finished_before:
        notes.append(f"scored before: {folder}")
    elif result["published"]:
        notes.append("published figures are means over all test sequences of the data set")
    return Report(
        settings=plain,
        result=result,
        files=[folder / name for name in names if (folder / name).is_file()],
        failed=job.failed,
        tables=tables(result, label=job.label),
        notes=notes,
        finished_before=finished_before,
    )


def _nothing_left(root: Path, data: TestData) -> NothingUsableError:
    if data.seen:
        return NothingUsableError(
            f"{root}: all {data.seen} test frames are among the run's training frames",
            hint="hold some back (`distill3r manifest --val-frames last:N`), or score other data",
        )
    first = f": {data.failed[0].item}: {data.failed[0].reason}" if data.failed else ""
    return NothingUsableError(
        f"{root} has no test frame that can be scored{first}",
        hint="ground truth needs depth, poses and calibrated intrinsics (layouts rgbd, 7scenes)",
    )


def _training_pictures(student: StudentFile) -> frozenset[str] | None:
    """Hashes of the pictures that a student was trained on; None where nobody knows."""
    metadata = student.student.metadata
    run = _run_folder(student)
    if metadata is None or metadata.pictures is None or run is None:
        return None
    file = run / metadata.pictures
    if not file.is_file():
        return None
    return frozenset(file.read_text(encoding="utf-8").split())


def _cache_path(student: StudentFile) -> Path | None:
    metadata = student.student.metadata
    path = metadata.settings.get("cache") if metadata is not None else None
    return None if path is None else Path(path)


def _run_folder(student: StudentFile) -> Path | None:
    """The run that weights lie in, `RUN/checkpoints/NAME/model.safetensors`."""
    checkpoints = student.path.parent.parent
    return checkpoints.parent if checkpoints.name == "checkpoints" else None


def _label(settings: EvalSettings, student: StudentFile | None) -> str:
    if settings.predict == "student" and student is not None:
        return student.label
    return settings.predict if student is None else f"{settings.predict}-{student.label}"


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()
