"""What a model is scored against: which frames or samples, without those it was trained on."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.layouts import LAYOUTS
from distill3r_core.errors import ConflictError, InputMissingError, NothingUsableError
from distill3r_core.evaluation.data_frames import TestData, read_test_data
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.truth import Truth
from distill3r_core.evaluation.validation_samples import read_validation
from distill3r_core.report import Failure, Progress
from distill3r_core.runs.run_record import read_record, samples_of
from distill3r_core.runs.student_file import StudentFile
from distill3r_core.stages.evaluate.scored_model import ScoredModel
from distill3r_core.stages.evaluate.settings import EvalSettings


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation of one model whose inputs are known.

    Args:
        failed: Frames or samples left out because they cannot be used; those of validation are
            known when the truths have been read.
    """

    model: ScoredModel
    source: str  # name of what it is scored against
    truths: Iterable[Truth]
    views: int
    digest: str
    layout: str = ""  # layout of the data set; "" for validation samples
    seen: int = 0  # frames left out because the model was trained on them
    failed: Sequence[Failure] = ()
    notes: tuple[str, ...] = ()


def prepare_data(
    settings: EvalSettings,
    root: Path,
    protocol: Protocol,
    model: ScoredModel,
    progress: Progress,
) -> PreparedEvaluation:
    """The test frames of a data set, without those that the model was trained on.

    Raises:
        ConfigError: No such layout.
        InputMissingError: There is nothing at `root`.
        NothingUsableError: No frame is left.
    """
    student = model.student
    metadata = None if student is None else student.student.metadata
    hashes: frozenset[str] | None = frozenset()
    if student is not None and settings.predict == "student":
        hashes = _training_images(student)
    recorded = metadata.processing if metadata is not None else {}
    data = read_test_data(
        root,
        layout=settings.layout,
        protocol=protocol,
        processing=config.validate(Processing, recorded, source="the recorded processing"),
        prepare=model.prepare,
        trained_on=hashes or frozenset(),
        progress=progress,
    )
    if not data.truths:
        raise _nothing_left(root, data)
    notes = []
    if hashes is None:
        notes.append("the training frames of this student are not known: none is left out")
    if data.seen:
        notes.append(f"{data.seen} frames left out: the student was trained on them")
    return PreparedEvaluation(
        model=model,
        source=root.resolve().name,
        truths=data.truths,
        views=sum(len(truth.view_names) for truth in data.truths),
        digest=_digest(content for truth in data.truths for content in truth.contents),
        layout=data.layout,
        seen=data.seen,
        failed=data.failed,
        notes=tuple(notes),
    )


def prepare_validation(settings: EvalSettings, model: ScoredModel) -> PreparedEvaluation:
    """A run's validation samples, with the teacher's maps as the truth.

    Raises:
        InputMissingError: The run does not name its cache, or it is not there.
        ConflictError: There is another cache now where the run's was.
        NothingUsableError: It has no validation samples, or all were trained on.
    """
    student = model.student
    assert student is not None, "validation samples are those of a run"
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
    trained_on: frozenset[str] = frozenset()
    if settings.predict == "student":
        trained_on = _training_images(student) or frozenset()
    views = [image for name in names for image in cache.detail(name)["pictures"]]
    seen = sum(image in trained_on for image in views)
    if seen == len(views):
        raise NothingUsableError(
            f"{path}: all {seen} validation views are among the run's training frames",
            hint="score it against a data set: --data ROOT",
        )
    planned = {sample.name: sample.content for sample in cache.header.plan}
    size, failed = student.fit.resized, list[Failure]()
    notes = [f"against the maps of the teacher {cache.header.teacher} for {len(names)} samples"]
    if seen:
        notes.append(f"{seen} views left out: the student was trained on them")
    return PreparedEvaluation(
        model=model,
        source="validation",
        truths=read_validation(cache, size=size, trained_on=trained_on, failed=failed),
        views=len(views) - seen,
        digest=_digest(
            [*names, *(planned[name] for name in names), json.dumps(cache.header.settings)]
        ),
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
    truth = frozenset({"depth", "pose", "intrinsics"})
    layouts = [name for name in LAYOUTS if truth <= LAYOUTS[name].carries]
    return NothingUsableError(
        f"{root} has no test frame that can be scored{first}",
        hint="ground truth needs depth, poses and calibrated intrinsics "
        f"(layouts {', '.join(layouts)})",
    )


def _training_images(student: StudentFile) -> frozenset[str] | None:
    """Hashes of the images that a student was trained on; None where they are not known."""
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
    """The run that weights belong to: `RUN/checkpoints/NAME/model.safetensors`."""
    checkpoints = student.path.parent.parent
    return checkpoints.parent if checkpoints.name == "checkpoints" else None


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()
