"""What a model is scored against: which frames or samples, without those it was trained on."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill3r_core import config
from distill3r_core.data.conventions.check_data import check_notes
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.known_poses import read_known_poses
from distill3r_core.data.layouts import LAYOUTS
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.manifest_images import ManifestImages
from distill3r_core.errors import InputMissingError, NothingUsableError
from distill3r_core.evaluation.data_frames import TestData, read_test_data
from distill3r_core.evaluation.held_out_frames import held_out_windows, read_held_out
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.truth import Truth
from distill3r_core.evaluation.validation_samples import read_validation
from distill3r_core.files import path_below
from distill3r_core.report import Failure, Progress
from distill3r_core.runs.student_file import StudentFile, cache_paths
from distill3r_core.runs.training_images import read_training_images
from distill3r_core.stages.evaluate.own_caches import check_caches, run_folder
from distill3r_core.stages.evaluate.scored_model import ScoredModel
from distill3r_core.stages.evaluate.settings import EvalSettings

UNKNOWN_FRAMES = "the training frames of this student are not known: none is left out"


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation of one model whose inputs are known.

    Args:
        failed: Frames or samples left out because they cannot be used; those of truths that are
            read as they are scored are known afterwards.
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
    *,
    trust: bool,
    checked: bool,
) -> PreparedEvaluation:
    """The test frames of a data set, without those that the model was trained on.

    Args:
        trust: Score against data whose parts contradict each other.
        checked: Whether the data have been checked already.

    Raises:
        ContradictionError: Depth, poses, intrinsics and images do not fit together.
        ConfigError: No such layout.
        InputMissingError: There is nothing at `root`.
        NothingUsableError: No frame is left.
        RequestError: `settings.poses` cannot be read.
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
        conventions=settings.conventions,
        poses=None if settings.poses is None else read_known_poses(settings.poses),
        trust=trust,
        checked=checked,
        progress=progress,
    )
    if not data.views:
        raise _nothing_left(root, data)
    notes = check_notes(root.resolve().name, data.check)
    if hashes is None:
        notes.append(UNKNOWN_FRAMES)
    elif hashes and protocol.reader is not None:
        notes.append(
            f"{protocol.name} has images in a form of its own: none is known again as a training "
            "frame, and none is left out"
        )
    if data.seen:
        notes.append(f"{data.seen} frames left out: the student was trained on them")
    return PreparedEvaluation(
        model=model,
        source=root.resolve().name,
        truths=data.truths,
        views=data.views,
        digest=_digest(data.contents),
        layout=data.layout,
        seen=data.seen,
        failed=data.failed,
        notes=tuple(notes),
    )


def prepare_validation(settings: EvalSettings, model: ScoredModel) -> PreparedEvaluation:
    """A run's validation samples, with the teacher's maps as the truth.

    Raises:
        InputMissingError: The run does not name its caches, or one is not there.
        ConflictError: There is another cache now where one of the run's was.
        NothingUsableError: It has no validation samples, or all were trained on.
    """
    student, paths, caches, known = _own_caches(settings, model)
    trained_on = known or frozenset()
    names, shown = caches.names("val"), ", ".join(map(str, paths))
    views = [image for name in names for image in caches.detail(name)["pictures"]]
    seen = sum(image in trained_on for image in views)
    if seen == len(views):
        raise NothingUsableError(
            f"{shown}: all {seen} validation views are among the run's training frames",
            hint="score it against a data set: --data ROOT",
        )
    contents = list[str]()  # what decides about the samples
    for member in caches.members:
        own, header = member.cache.names("val"), member.cache.header
        planned = {sample.name: sample.content for sample in header.plan}
        contents += [*own, *(planned[name] for name in own), json.dumps(header.settings)]
    failed = list[Failure]()
    notes = [
        f"against the maps of the teacher {member.cache.header.teacher} for "
        f"{len(member.cache.names('val'))} samples" + (f" of {member.label}" * caches.several)
        for member in caches.members
    ]
    if known is None:
        notes.append(UNKNOWN_FRAMES)
    if seen:
        notes.append(f"{seen} views left out: the student was trained on them")
    return PreparedEvaluation(
        model=model,
        source="validation",
        truths=_validation_truths(
            caches,
            student,
            trained_on,
            failed,
            ManifestImages() if settings.uses_colmap else None,
        ),
        views=len(views) - seen,
        digest=_digest(contents),
        seen=seen,
        failed=failed,
        notes=tuple(notes),
    )


def prepare_held_out(
    settings: EvalSettings, protocol: Protocol, model: ScoredModel
) -> PreparedEvaluation:
    """A run's validation frames, with their own depth and poses as the truth.

    Raises:
        InputMissingError: The run does not name its cache, or cache or manifest are not there.
        ConflictError: There is another cache now where the run's was.
        NothingUsableError: It has no validation frames, or all were trained on.
    """
    _, paths, caches, known = _own_caches(settings, model)
    trained_on = known or frozenset()
    windows, seen = held_out_windows(caches, protocol, trained_on=trained_on)
    views = sum(len(rows) for *_, rows in windows)
    if not views:
        raise NothingUsableError(
            f"{', '.join(map(str, paths))}: all {seen} validation frames are among the run's "
            "training frames",
            hint="score it against a data set: --data ROOT",
        )
    frames = {row.image_path for *_, rows in windows for row in rows}
    notes = [f"{len(frames)} held-out frames, {len(windows)} windows"]
    if known is None:
        notes.append(UNKNOWN_FRAMES)
    if seen:
        notes.append(f"{seen} frames left out: the student was trained on them")
    failed = list[Failure]()
    return PreparedEvaluation(
        model=model,
        source="validation",
        truths=read_held_out(windows, prepare=model.prepare, failed=failed),
        views=views,
        digest=_digest(f"{name} {row.content}" for name, _, rows in windows for row in rows),
        seen=seen,
        failed=failed,
        notes=tuple(notes),
    )


def _own_caches(
    settings: EvalSettings, model: ScoredModel
) -> tuple[StudentFile, list[Path], CacheUnion, frozenset[str] | None]:
    """The caches that a student learned from, their paths, and the images it was trained on.

    Of what is no student none is left out; None: they are not known.

    Raises:
        InputMissingError: The run does not name its caches, or one is not there.
        ConflictError: There is another cache now where one of the run's was.
        NothingUsableError: They have no validation samples.
    """
    student = model.student
    assert student is not None, "validation samples are those of a run"
    paths = cache_paths(student)
    if not paths:
        raise InputMissingError(
            f"{student.path} does not say which cache it learned from",
            hint="score it against a data set: --data ROOT",
        )
    caches = CacheUnion.open(paths)
    check_caches(caches, student)
    if not caches.names("val"):
        raise NothingUsableError(
            f"{', '.join(map(str, paths))}: no validation samples, so {student.label} has none",
            hint="score it against a data set: --data ROOT",
        )
    trained_on: frozenset[str] | None = frozenset()
    if settings.predict == "student":
        trained_on = _training_images(student)
    return student, list(paths), caches, trained_on


def _validation_truths(
    caches: CacheUnion,
    student: StudentFile,
    trained_on: frozenset[str],
    failed: list[Failure],
    sources: ManifestImages | None,
) -> Iterator[Truth]:
    for member in caches.members:
        yield from read_validation(
            member.cache,
            size=student.fit.resized,
            trained_on=trained_on,
            failed=failed,
            label=member.label if caches.several else "",
            sources=sources,
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
    run = run_folder(student)
    if metadata is None or metadata.pictures is None or run is None:
        return None
    file = path_below(run, metadata.pictures)
    return read_training_images(file) if file.is_file() else None


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()
