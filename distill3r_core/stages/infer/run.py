"""From pictures to a reconstruction on the disk."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from distill3r_core import config, paths, profiling
from distill3r_core.errors import (
    ConflictError,
    ImageError,
    NothingUsableError,
    OutOfMemoryError,
    RequestError,
)
from distill3r_core.io.images.fit import Fit
from distill3r_core.io.images.inputs import (
    InputFile,
    find_inputs,
    require_extras,
    scene_folders,
    spelled,
)
from distill3r_core.models.compiled import compile_parts
from distill3r_core.models.student import HeadName
from distill3r_core.profiling import stopwatch
from distill3r_core.reconstruction.exports import export
from distill3r_core.reconstruction.forward_pass import Plan, plan_pass, require_codes
from distill3r_core.reconstruction.head_options import (
    Placing,
    placing,
    require_formats,
    require_world,
)
from distill3r_core.reconstruction.known_positions import KnownPositions, check_known, read_known
from distill3r_core.reconstruction.loaded_views import Loaded, LoadedView, load_views
from distill3r_core.reconstruction.local_views import LocalViews
from distill3r_core.reconstruction.reconstruct import reconstruct_views
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.results import claim, read_record, write_record
from distill3r_core.runs.student_file import StudentFile, open_student
from distill3r_core.stages.infer.record import SceneOutcome, Written, record_of
from distill3r_core.stages.infer.report import scene_report, scenes_report
from distill3r_core.stages.infer.settings import InferSettings

# What need not keep `--each` from the other scenes.
_OF_ONE_SCENE = (NothingUsableError, ImageError, OutOfMemoryError, RequestError)
# What shapes a cloud and nothing else.
_OF_CLOUDS = ("cloud", "poses", "pnp", "conf", "edges", "voxel", "max_points")


@dataclass(frozen=True)
class _Scene:
    """One reconstruction to be made."""

    name: str
    sources: Sequence[InputFile]
    left_out: Sequence[Failure]
    output: Path | None


@dataclass(frozen=True)
class _Wanted:
    """What is asked for, looked up: the same for every scene.

    Args:
        settings: As given.
        file: The student.
        plan: How views come into one world; None where they do not.
        known: What makes lengths metric.
        overwrite: Replace another result in the folder that was named.
    """

    settings: InferSettings
    file: StudentFile
    plan: Placing | None
    known: KnownPositions | None
    overwrite: bool

    @property
    def fit(self) -> Fit:
        """How pictures become the student's input."""
        fit, size = self.file.fit, self.settings.size
        return fit if size is None else replace(fit, size=size, resized=None, by_shape=False)


def infer(
    settings: InferSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Reconstruct scenes from pictures and write the results.

    Args:
        settings: What is asked for.
        overwrite: Replace another result in `settings.output`.
        progress: Reports every stage.

    Raises:
        InputMissingError: An input, a model or a run is not there.
        ExtraMissingError: An input or a setting needs a package that is not installed.
        NothingUsableError: Not one picture of all scenes could be used.
        ConflictError: `settings.output` holds something else, or two scenes have one name in it.
        RequestError: The heads that are to run do not give what is asked for.
        OutOfMemoryError: The views do not fit, in the smallest chunks.
    """
    progress = progress or Silent()
    plan = placing(settings.head, settings.cloud, settings.poses, pnp=settings.pnp)
    require_world(settings.head, settings.scale_from)
    require_formats(settings.head, settings.formats)
    known = None if settings.scale_from is None else read_known(settings.scale_from)
    scenes = _scenes(settings, progress)
    for scene in scenes:
        require_extras(scene.sources)
    device = profiling.pick_device(settings.device)
    file = open_student(settings.model, device, settings.precision)
    wanted = _Wanted(settings, file, plan, known, overwrite)
    outcomes: list[SceneOutcome] = []
    failed: list[Failure] = []
    for number, scene in enumerate(scenes, start=1):
        if settings.each:  # whose plan and warnings follow
            progress.note(f"scene {number} of {len(scenes)}: {scene.name}")
        try:
            outcomes.append(_infer_scene(scene, wanted, progress))
        except _OF_ONE_SCENE as error:
            # A folder that is taken is not the scene's fault.
            if not settings.each or isinstance(error, ConflictError):
                raise
            failed.append(Failure(scene.name, error.message))
    if not outcomes:
        lines = [f"  {failure.item}: {failure.reason}" for failure in failed]
        raise NothingUsableError("\n".join([f"not one of {len(scenes)} scenes:", *lines]))
    plain = config.as_plain(settings)
    if settings.each:
        return scenes_report(plain, outcomes, failed)
    return scene_report(plain, outcomes[0])


def _scenes(settings: InferSettings, progress: Progress) -> list[_Scene]:
    if not settings.each:
        sources, left_out = find_inputs(settings.inputs)
        name = _name(settings.inputs, sources)
        return [_Scene(name, sources, left_out, settings.output)]
    scenes = []
    folders, empty = scene_folders(settings.inputs)
    for folder in empty:
        progress.note(f"{folder} holds no pictures that can be read")
    if settings.output is not None:
        _refuse_equal_names(folders, settings.output)
    for folder in folders:
        sources, left_out = find_inputs([str(folder)])
        output = None if settings.output is None else settings.output / folder.name
        scenes.append(_Scene(spelled(Path(folder.name)), sources, left_out, output))
    return scenes


def _refuse_equal_names(folders: Sequence[Path], output: Path) -> None:
    """Two scenes of one name would be written into one folder."""
    first: dict[str, Path] = {}
    for folder in folders:
        other = first.setdefault(folder.name, folder)
        if other is not folder:
            raise ConflictError(
                f"{other} and {folder} would both be written to {output / folder.name}",
                hint="rename one, or give each its own --output",
            )


def _name(inputs: Sequence[str], sources: Sequence[InputFile]) -> str:
    """Of a folder or a single file that is named; of several files, the first one's folder."""
    first = Path(inputs[0])
    if first.is_dir():
        named = first.resolve().name
    elif len(sources) == 1:
        named = sources[0].path.stem
    else:
        named = sources[0].path.resolve().parent.name if sources else first.name
    return spelled(Path(named))


def _infer_scene(scene: _Scene, wanted: _Wanted, progress: Progress) -> SceneOutcome:
    settings, file = wanted.settings, wanted.file
    loaded = _load(scene, wanted, progress)
    failed = [*scene.left_out, *loaded.failed]
    # What cannot be done is said before a folder is taken.
    if wanted.known is not None:
        check_known(wanted.known, loaded.views)
    plan = plan_pass(file.student, loaded.views, head=settings.head)
    identity = _identity(loaded.views, wanted)
    claimed = claim(
        paths.RESULTS / "infer" / f"{scene.name}-{file.label}",
        chosen=scene.output,
        identity=identity,
        overwrite=wanted.overwrite,
    )
    folder = claimed.folder
    if claimed.finished:
        return SceneOutcome(folder, read_record(folder), tuple(failed), finished_before=True)
    if settings.compile:
        _compile(file, loaded.views, plan, settings.head, progress)
    with stopwatch(file.device) as watch, _room_of_the_machine(scene.name):
        outcome = reconstruct_views(
            loaded.views,
            file.student,
            head=settings.head,
            plan=wanted.plan,
            known=wanted.known,
            seed=settings.seed,
            progress=progress,
        )
        written = _write(outcome.scene, folder, scene.name, settings, progress)
    record = record_of(
        folder, outcome, written, name=scene.name, file=file, head=settings.head,
        plan=wanted.plan, seconds=watch.seconds,
    )  # fmt: skip
    write_record(folder, identity=identity, **record)
    return SceneOutcome(folder, record, (*failed, *outcome.failed), notes=outcome.notes)


def _load(scene: _Scene, wanted: _Wanted, progress: Progress) -> Loaded:
    settings = wanted.settings
    if settings.max_views is None:
        require_codes(sum(source.kind == "picture" for source in scene.sources))
    loaded = load_views(
        scene.sources, wanted.fit, fps=settings.fps, max_views=settings.max_views, progress=progress
    )
    if not loaded.views:
        raise NothingUsableError(_nothing(scene, [*scene.left_out, *loaded.failed]))
    return loaded


def _write(
    scene: Reconstruction | LocalViews,
    folder: Path,
    title: str,
    settings: InferSettings,
    progress: Progress,
) -> Written:
    progress.begin("write", total=len(settings.formats), unit="formats")

    def told(name: str) -> None:
        progress.advance(format=name)

    if isinstance(scene, LocalViews):
        return Written(scene.save(folder, settings.formats, on_format=told), None)
    cleaned = scene.clean(settings.cleaning)
    files = export(scene, cleaned, folder, settings.formats, title=title, on_format=told)
    return Written(files, cleaned)


@contextmanager
def _room_of_the_machine(scene: str) -> Iterator[None]:
    """Say what helps where memory runs out beside the student's pass, which has an answer itself.

    Raises:
        OutOfMemoryError: The block ran out of it.
    """
    try:
        with profiling.memory_limits():
            yield
    except profiling.OutOfRoom as error:
        raise OutOfMemoryError(
            f"{scene}: no memory is left to clean and write the points",
            hint="fewer views (--max-views), smaller ones (--size), fewer points (--max-points) "
            "or fewer formats at once",
        ) from error


def _compile(
    file: StudentFile,
    views: Sequence[LoadedView],
    plan: Plan,
    head: HeadName,
    progress: Progress,
) -> None:
    """Compile the student for a scene's pictures; where that fails it runs as it is."""
    progress.begin("compile", total=1, unit="student")
    sizes = [view.fitted.placement.size for view in views]
    with stopwatch(file.device) as watch:
        images = [torch.zeros(3, *size) for size in sizes]
        reason = compile_parts(file.student, images, head=head, head_chunk=plan.head_chunk)
    progress.advance()
    if reason is None:
        progress.note(f"compiled in {watch.seconds:.0f} s")
    else:
        progress.note(f"warning: not compiled, running as it is: {reason}")


def _nothing(scene: _Scene, failed: Sequence[Failure]) -> str:
    lines = [f"  {failure.item}: {failure.reason}" for failure in failed]
    return "\n".join([f"no picture of {scene.name} can be used:", *lines])


def _identity(views: Sequence[LoadedView], wanted: _Wanted) -> dict[str, Any]:
    """All that changes the result."""
    settings, file = wanted.settings, wanted.file
    plain = config.as_plain(settings)
    for name in (
        "inputs", "model", "output", "ply", "size", "each", "device", "scale_from", "compile",
    ):  # fmt: skip
        del plain[name]
    plain |= {"format": sorted(settings.formats), "precision": file.precision}
    if wanted.plan is None:  # without a world there is no cloud
        for name in _OF_CLOUDS:
            del plain[name]
    else:  # what was left to the heads
        plain |= {"cloud": wanted.plan.cloud, "poses": wanted.plan.poses}
    for name, usual in (("head", "both"), ("pnp", True)):  # results older than these have neither
        if plain.get(name) == usual:
            del plain[name]
    digest = hashlib.blake2b(digest_size=16)
    paths = list(dict.fromkeys(view.path for view in views if view.path is not None))
    for path in paths:
        digest.update(os.fsencode(path.name))
        with path.open("rb") as data:
            digest.update(hashlib.file_digest(data, hashlib.blake2b).digest())
    return {
        "settings": plain,
        "known": None if wanted.known is None else wanted.known.as_plain(),
        "fit": wanted.fit.as_plain(),
        "model": file.digest,
        "inputs": f"{len(paths)} files, {digest.hexdigest()}",
    }
