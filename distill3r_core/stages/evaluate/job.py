"""What an evaluation is to score: which frames or samples, and what the student was trained on."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.config import STRICT
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.layouts import AUTO, check_layout
from distill3r_core.errors import ConflictError, InputMissingError, NothingUsableError
from distill3r_core.evaluation.protocols import PROTOCOLS, Protocol
from distill3r_core.io.images.fit import Fit
from distill3r_core.profiling import DeviceName
from distill3r_core.report import Failure, Progress
from distill3r_core.runs.record import read_record, samples_of
from distill3r_core.runs.student_file import StudentFile
from distill3r_core.stages.evaluate.truth import TestData, Truth, read_test_data, read_validation


@checked_dataclass(frozen=True, config=STRICT)
class EvalSettings:
    """What is scored, and against what."""

    run: Path | None = None  # a run or a weight file; None: the newest run, where one is needed
    data: Path | None = None  # with ground truth; None: the run's validation samples
    layout: Annotated[str, config.reads(check_layout)] = AUTO  # of `data`
    protocol: Annotated[str, config.reads(PROTOCOLS.__getitem__)] = "table2"
    predict: Literal["student", "truth", "constant"] = "student"
    size: Annotated[str, config.LOWER, config.reads(config.parse_size)] | None = (
        None  # grid of maps that come from no student; None: the protocol's
    )
    device: DeviceName = "auto"
    output: Path | None = None  # None: results/eval/<run>-<data>-<protocol>


@dataclass(frozen=True)
class Job:
    """An evaluation whose inputs are known.

    Args:
        label: Of what is scored.
        source: Of what it is scored against.
        truths: Sequence by sequence.
        views: How many are to be scored, at most.
        digest: Of the truths.
        grid: Rows and columns, landscape.
        layout: Of the data set; "" for validation samples.
        seen: Frames left out because the student was trained on them.
        failed: Frames or samples left out because they cannot be used; those of validation are
            known when the truths have been read.
        notes: Worth saying.
    """

    label: str
    source: str
    truths: Iterable[Truth]
    views: int
    digest: str
    grid: tuple[int, int]
    layout: str = ""
    seen: int = 0
    failed: Sequence[Failure] = ()
    notes: tuple[str, ...] = ()


def job_of_data(
    settings: EvalSettings,
    root: Path,
    protocol: Protocol,
    student: StudentFile | None,
    progress: Progress,
) -> Job:
    """The test frames of a data set, without those that the student was trained on.

    Args:
        settings: Of the evaluation.
        root: Of the data set.
        protocol: Chooses the frames.
        student: Whose input they are brought to; None: they go to the protocol's grid.
        progress: Reports every frame.

    Raises:
        ConfigError: No such layout.
        InputMissingError: There is nothing at `root`.
        NothingUsableError: No frame is left.
    """
    metadata = None if student is None else student.student.metadata
    pictures: frozenset[str] | None = frozenset()
    if student is not None and settings.predict == "student":
        pictures = _training_pictures(student)
    recorded = metadata.processing if metadata is not None else {}
    fit = _protocols_fit(settings, protocol, progress) if student is None else student.fit
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
    return Job(
        label=_label(settings, student),
        source=root.resolve().name,
        truths=data.truths,
        views=sum(len(truth.view_names) for truth in data.truths),
        digest=_digest(content for truth in data.truths for content in truth.contents),
        grid=fit.resized or fit.size,
        layout=data.layout,
        seen=data.seen,
        failed=data.failed,
        notes=tuple(notes),
    )


def _protocols_fit(settings: EvalSettings, protocol: Protocol, progress: Progress) -> Fit:
    """The grid of maps that come from no student."""
    if settings.size is not None:
        return Fit(size=config.parse_size(settings.size))
    rows, columns = protocol.grid
    progress.note(
        f"on the protocol's grid, {rows}x{columns}, as the published figures are; for a run's own "
        "name the run, --size HxW takes another (figures of different grids do not compare)"
    )
    return Fit(size=protocol.grid)


def job_of_validation(settings: EvalSettings, student: StudentFile) -> Job:
    """A run's validation samples, with what the teacher said as the truth.

    Args:
        settings: Of the evaluation.
        student: Of the run.

    Raises:
        InputMissingError: The run does not name its cache, or it is not there.
        ConflictError: There is another cache now where the run's was.
        NothingUsableError: It has no validation samples, or all were trained on.
    """
    path = cache_path(student)
    if path is None:
        raise InputMissingError(
            f"{student.path} does not say which cache it learned from",
            hint="score it against a data set: --data ROOT",
        )
    cache = TeacherCache(path)
    _check_cache(cache, path, student)
    names = cache.names("val")
    if not names:
        raise NothingUsableError(
            f"{path} has no validation samples, so {student.label} has none",
            hint="score it against a data set: --data ROOT",
        )
    pictures: frozenset[str] | None = frozenset()
    if settings.predict == "student":
        pictures = _training_pictures(student)
    trained_on = pictures or frozenset()
    views = [picture for name in names for picture in cache.detail(name)["pictures"]]
    seen = sum(picture in trained_on for picture in views)
    if seen == len(views):
        raise NothingUsableError(
            f"{path}: all {seen} validation views are among the run's training frames",
            hint="score it against a data set: --data ROOT",
        )
    planned = {sample.name: sample.content for sample in cache.header.plan}
    fit, failed = student.fit, list[Failure]()
    notes = [f"against what the teacher {cache.header.teacher} said of {len(names)} samples"]
    if seen:
        notes.append(f"{seen} views left out: the student was trained on them")
    return Job(
        label=_label(settings, student),
        source="validation",
        truths=read_validation(cache, size=fit.resized, trained_on=trained_on, failed=failed),
        views=len(views) - seen,
        digest=_digest(
            [*names, *(planned[name] for name in names), json.dumps(cache.header.settings)]
        ),
        grid=fit.resized or fit.size,
        seen=seen,
        failed=failed,
        notes=tuple(notes),
    )


def _check_cache(cache: TeacherCache, path: Path, student: StudentFile) -> None:
    run = _run_folder(student)
    record = None if run is None else read_record(run)
    if record is None:
        return  # a weight file alone does not say what was in its cache
    learned, found = record["identity"]["cache"]["samples"], samples_of(cache)["samples"]
    if learned != found:
        raise ConflictError(
            f"{path} holds other samples than {run} learned from",
            hint="go to the folder that it was trained in, or score against a data set: "
            "--data ROOT",
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


def cache_path(student: StudentFile) -> Path | None:
    """The cache that a student learned from; None where its file does not say."""
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
