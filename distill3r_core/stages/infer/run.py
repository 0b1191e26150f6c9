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
from distill3r_core.geometry.pnp import require_pnp
from distill3r_core.io.fit import Fit
from distill3r_core.io.sources import (
    Source,
    find_sources,
    require_extras,
    scene_folders,
    spelled,
)
from distill3r_core.models.compiled import compile_parts
from distill3r_core.profiling import stopwatch
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.stages.infer.exports import export
from distill3r_core.stages.infer.forward import Plan, plan_pass, require_codes
from distill3r_core.stages.infer.pictures import LoadedView, load_views
from distill3r_core.stages.infer.reconstruct import reconstruct_views
from distill3r_core.stages.infer.report import SceneOutcome, scene_report, scenes_report
from distill3r_core.stages.infer.scale import KnownPositions, check_known, read_known
from distill3r_core.stages.infer.settings import InferSettings
from distill3r_core.stages.outputs import claim, read_record, write_record
from distill3r_core.stages.student_file import StudentFile, open_student

# What need not keep `--each` from the other scenes.
_OF_ONE_SCENE = (NothingUsableError, ImageError, OutOfMemoryError, RequestError)


@dataclass(frozen=True)
class _Scene:
    """One reconstruction to be made."""

    name: str
    sources: Sequence[Source]
    left_out: Sequence[Failure]
    output: Path | None


def infer(
    settings: InferSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Reconstruct scenes from pictures and write the results.

    Args:
        settings: What is asked for.
        overwrite: Replace another result in `settings.output`.
        progress: Told of every stage.

    Raises:
        InputMissingError: An input, a model or a run is not there.
        ExtraMissingError: An input or a setting needs a package that is not installed.
        NothingUsableError: Not one picture of all scenes could be used.
        ConflictError: `settings.output` holds something else, or two scenes have one name in it.
        OutOfMemoryError: The views do not fit, in the smallest chunks.
    """
    progress = progress or Silent()
    if settings.poses == "pnp":
        require_pnp()
    known = None if settings.scale_from is None else read_known(settings.scale_from)
    scenes = _scenes(settings, progress)
    for scene in scenes:
        require_extras(scene.sources)
    device = profiling.pick_device(settings.device)
    file = open_student(settings.model, device, settings.precision)
    outcomes: list[SceneOutcome] = []
    failed: list[Failure] = []
    for scene in scenes:
        try:
            outcomes.append(_infer_scene(scene, settings, file, known, overwrite, progress))
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
        sources, left_out = find_sources(settings.inputs)
        name = _name(settings.inputs, sources)
        return [_Scene(name, sources, left_out, settings.output)]
    scenes = []
    folders, empty = scene_folders(settings.inputs)
    for folder in empty:
        progress.note(f"{folder} holds no pictures that can be read")
    if settings.output is not None:
        _refuse_equal_names(folders, settings.output)
    for folder in folders:
        sources, left_out = find_sources([str(folder)])
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


def _name(inputs: Sequence[str], sources: Sequence[Source]) -> str:
    """Of a folder or a single file that is named; of several files, the first one's folder."""
    first = Path(inputs[0])
    if first.is_dir():
        named = first.resolve().name
    elif len(sources) == 1:
        named = sources[0].path.stem
    else:
        named = sources[0].path.resolve().parent.name if sources else first.name
    return spelled(Path(named))


def _infer_scene(
    scene: _Scene,
    settings: InferSettings,
    file: StudentFile,
    known: KnownPositions | None,
    overwrite: bool,
    progress: Progress,
) -> SceneOutcome:
    fit = file.fit
    if settings.size is not None:
        fit = replace(fit, size=settings.size, resized=None, by_shape=False)
    if settings.max_views is None:
        require_codes(sum(source.kind == "picture" for source in scene.sources))
    loaded = load_views(
        scene.sources, fit, fps=settings.fps, max_views=settings.max_views, progress=progress
    )
    failed = [*scene.left_out, *loaded.failed]
    if not loaded.views:
        raise NothingUsableError(_nothing(scene, failed))
    # What cannot be done is said before a folder is taken.
    if known is not None:
        check_known(known, loaded.views)
    plan = plan_pass(file.student, loaded.views)
    identity = _identity(loaded.views, settings, file, fit, known)
    claimed = claim(
        paths.RESULTS / "infer" / f"{scene.name}-{file.label}",
        chosen=scene.output,
        identity=identity,
        overwrite=overwrite,
    )
    folder = claimed.folder
    if claimed.finished:
        return SceneOutcome(folder, read_record(folder), tuple(failed), finished_before=True)
    if settings.compile:
        _compile(file, loaded.views, plan, progress)
    with stopwatch(file.device) as watch, _room_of_the_machine(scene.name):
        outcome = reconstruct_views(
            loaded.views,
            file.student,
            cloud=settings.cloud,
            poses=settings.poses,
            known=known,
            seed=settings.seed,
            progress=progress,
        )
        progress.begin("write", total=len(settings.formats), unit="formats")
        cleaned = outcome.scene.clean(settings.cleaning)
        files = export(
            outcome.scene, cleaned, folder, settings.formats,
            title=scene.name, on_format=lambda name: progress.advance(format=name),
        )  # fmt: skip
    done = SceneOutcome.of(
        folder, outcome, cleaned, files, [*failed, *outcome.failed],
        name=scene.name, file=file, seconds=watch.seconds,
    )  # fmt: skip
    write_record(folder, identity=identity, **done.record)
    return done


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
    file: StudentFile, views: Sequence[LoadedView], plan: Plan, progress: Progress
) -> None:
    """Compile the student for a scene's pictures; where that fails it runs as it is."""
    progress.begin("compile", total=1, unit="student")
    sizes = [view.fitted.placement.size for view in views]
    with stopwatch(file.device) as watch:
        reason = compile_parts(
            file.student, [torch.zeros(3, *size) for size in sizes], head_chunk=plan.head_chunk
        )
    progress.advance()
    if reason is None:
        progress.note(f"compiled in {watch.seconds:.0f} s")
    else:
        progress.note(f"warning: not compiled, running as it is: {reason}")


def _nothing(scene: _Scene, failed: Sequence[Failure]) -> str:
    lines = [f"  {failure.item}: {failure.reason}" for failure in failed]
    return "\n".join([f"no picture of {scene.name} can be used:", *lines])


def _identity(
    views: Sequence[LoadedView],
    settings: InferSettings,
    file: StudentFile,
    fit: Fit,
    known: KnownPositions | None,
) -> dict[str, Any]:
    """All that changes the result."""
    plain = config.as_plain(settings)
    for name in (
        "inputs", "model", "output", "ply", "size", "each", "device", "scale_from", "compile",
    ):  # fmt: skip
        del plain[name]
    digest = hashlib.blake2b(digest_size=16)
    paths = list(dict.fromkeys(view.path for view in views if view.path is not None))
    for path in paths:
        digest.update(os.fsencode(path.name))
        with path.open("rb") as data:
            digest.update(hashlib.file_digest(data, hashlib.blake2b).digest())
    return {
        "settings": plain | {"format": sorted(settings.formats), "precision": file.precision},
        "known": None if known is None else known.as_plain(),
        "fit": fit.as_plain(),
        "model": file.digest,
        "inputs": f"{len(paths)} files, {digest.hexdigest()}",
    }
