"""From images to a reconstruction on the disk."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from distill3r_core import config, paths, profiling
from distill3r_core.errors import (
    ConflictError,
    ImageError,
    NothingUsableError,
    OutOfMemoryError,
    RequestError,
)
from distill3r_core.io.images.inputs import require_extras
from distill3r_core.models.compiled import compile_parts
from distill3r_core.models.families import check_size
from distill3r_core.models.student import HeadName
from distill3r_core.prediction import Predictor
from distill3r_core.profiling import stopwatch
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions, parse_intrinsics
from distill3r_core.reconstruction.cameras.known_positions import check_known, read_known
from distill3r_core.reconstruction.export import save_reconstruction
from distill3r_core.reconstruction.formats import Need, require_formats
from distill3r_core.reconstruction.head_options import (
    heads_of,
    require_heads,
    require_world,
    resolve_options,
)
from distill3r_core.reconstruction.loaded_views import LoadedView, LoadedViews, load_views
from distill3r_core.reconstruction.local_views import LocalViews
from distill3r_core.reconstruction.point_cloud import clean_cloud
from distill3r_core.reconstruction.prediction.forward_pass import require_views
from distill3r_core.reconstruction.prediction.load_model import LoadedModel, open_model
from distill3r_core.reconstruction.prediction.memory_plan import plan_pass
from distill3r_core.reconstruction.prediction.student_predictor import StudentPredictor
from distill3r_core.reconstruction.reconstruct import fitting_of, reconstruct_views
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.report import Failure, Progress, Report, Silent
from distill3r_core.results import claim, read_record, write_record
from distill3r_core.runs.chosen_model import chosen_teachers
from distill3r_core.stages.infer.compare_models import ComparedScene, FirstModel, compare_models
from distill3r_core.stages.infer.infer_report import scene_report, scenes_report
from distill3r_core.stages.infer.scene_inputs import SceneInputs, find_scenes
from distill3r_core.stages.infer.scene_record import SceneOutcome, WrittenFiles, record_of
from distill3r_core.stages.infer.scene_request import SceneRequest, identity_of
from distill3r_core.stages.infer.settings import InferSettings
from distill3r_core.teachers.choice import check_own_settings

# What need not keep `--each` from the other scenes.
_OF_ONE_SCENE = (NothingUsableError, ImageError, OutOfMemoryError, RequestError)


def infer(
    settings: InferSettings, *, overwrite: bool = False, progress: Progress | None = None
) -> Report:
    """Reconstruct scenes from images and write the results.

    Args:
        settings: What is asked for.
        overwrite: Replace another result in `settings.output`.
        progress: Reports every stage.

    Raises:
        InputMissingError: An input, a model or a run is not there.
        ExtraMissingError: An input or a setting needs a package that is not installed.
        NothingUsableError: Not one image of all scenes could be used.
        ConflictError: `settings.output` holds something else, or two scenes have one name in it.
        RequestError: The model or its heads do not give what is asked for.
        OutOfMemoryError: The views do not fit, in the smallest chunks.
    """
    progress = progress or Silent()
    # What is missing is said before anything else is looked at.
    compared = [] if settings.compare is None else [settings.compare]
    check_own_settings(chosen_teachers([settings.model, *compared]), settings.teacher)
    options = resolve_options(
        settings.head, settings.cloud, settings.poses, pnp=settings.pnp, refine=settings.refine
    )
    require_world(settings.head, settings.scale_from)
    if settings.compare is not None and options is None:
        raise RequestError(
            "--compare aligns two worlds, and the local head alone knows none",
            hint="leave out --head local",
        )
    has: tuple[Need, ...] = () if options is None else ("poses", "cloud")
    require_formats(settings.formats, has=has)
    given = None if settings.intrinsics is None else parse_intrinsics(settings.intrinsics)
    cameras = CameraOptions(given, shared=settings.shared_camera)
    known = None if settings.scale_from is None else read_known(settings.scale_from)
    scenes = find_scenes(settings, progress)
    for scene in scenes:
        require_extras(scene.sources)
    device = profiling.pick_device(settings.device)
    model = open_model(settings.model, device, settings.precision, teacher=settings.teacher)
    head = heads_of(model.predictor, settings.head)
    if head != settings.head:  # a scene student has one map alone
        settings = replace(settings, head=head)
        options = resolve_options(
            head, settings.cloud, settings.poses, pnp=settings.pnp, refine=settings.refine
        )
    _require_settings(model.predictor, settings)
    other = None
    if settings.compare is not None:
        other = open_model(settings.compare, device, teacher=settings.teacher)
    request = SceneRequest(settings, model, other, options, cameras, known, overwrite)
    outcomes: list[SceneOutcome] = []
    failed: list[Failure] = []
    for number, scene in enumerate(scenes, start=1):
        if settings.each:  # whose plan and warnings follow
            progress.note(f"scene {number} of {len(scenes)}: {scene.name}")
        try:
            outcomes.append(_infer_scene(scene, request, progress))
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
        return scenes_report(plain, outcomes, failed, strict=settings.strict)
    return scene_report(plain, outcomes[0], strict=settings.strict)


def _require_settings(model: Predictor, settings: InferSettings) -> None:
    """Refuse settings that only a student has.

    Raises:
        ConfigError: The student does not take that size.
        RequestError: Names the option and the model.
    """
    require_heads(model, settings.head)
    if isinstance(model, StudentPredictor):
        if settings.size is not None:
            check_size(model.student.spec, settings.size)
        return
    options = {
        "--size": settings.size is not None,
        "--precision": settings.precision != "auto",
        "--compile": settings.compile,
    }
    for option, given in options.items():
        if given:
            raise RequestError(
                f"{option} is for students; {model.name} decides it by itself",
                hint=f"leave {option} out",
            )


def _infer_scene(scene: SceneInputs, request: SceneRequest, progress: Progress) -> SceneOutcome:
    settings, model = request.settings, request.model
    loaded = _load(scene, request, request.model, progress)
    failed = [*scene.failed, *loaded.failed]
    # What cannot be done is said before a folder is taken.
    request.cameras.check(loaded.views)
    if request.known is not None:
        check_known(request.known, loaded.views)
    if model.student is not None:
        plan_pass(model.student, loaded.views, head=settings.head)
    else:
        require_views(model.predictor, len(loaded.views))
    identity = identity_of(loaded.views, request)
    claimed = claim(
        paths.RESULTS / "infer" / f"{scene.name}-{model.label}",
        chosen=scene.output,
        identity=identity,
        overwrite=request.overwrite,
    )
    folder = claimed.folder
    if claimed.finished:
        return SceneOutcome(
            folder,
            read_record(folder),
            tuple(failed),
            omitted=tuple(scene.omitted),
            finished_before=True,
        )
    if settings.compile:
        _compile(model, loaded.views, settings.head, progress)
    with stopwatch(model.device) as watch, _cleaning_memory(scene.name):
        outcome = reconstruct_views(
            loaded.views,
            model.predictor,
            head=settings.head,
            options=request.options,
            cameras=request.cameras,
            known=request.known,
            seed=settings.seed,
            device=model.device,
            scene=scene.name,
            progress=progress,
        )
        written = _write(outcome.scene, folder, scene.name, settings, progress)
        compared = _compare(scene, request, outcome.scene, written, folder, progress)
    if compared is not None:
        written = replace(written, files=(*written.files, *compared.files))
    record = record_of(
        folder, outcome, written, name=scene.name, model=model, head=settings.head,
        options=request.options, seconds=watch.seconds,
    )  # fmt: skip
    failed += outcome.failed
    if compared is not None:
        failed += compared.failed
        record["comparison"] = compared.record
    record["left_out"] = [
        {"item": item.item, "reason": item.reason} for item in (*failed, *scene.omitted)
    ]
    write_record(folder, identity=identity, **record)
    return SceneOutcome(
        folder, record, tuple(failed), omitted=tuple(scene.omitted), notes=outcome.notes
    )


def _compare(
    scene: SceneInputs,
    request: SceneRequest,
    found: Reconstruction | LocalViews,
    written: WrittenFiles,
    folder: Path,
    progress: Progress,
) -> ComparedScene | None:
    """The comparison with the other model; None where none is asked for."""
    other, settings = request.other, request.settings
    if other is None:
        return None
    assert isinstance(found, Reconstruction) and written.cleaned is not None
    progress.note(f"the same with {other.label}")
    loaded = _load(scene, request, other, progress)
    return compare_models(
        FirstModel(request.model, found, written.cleaned),
        other,
        loaded,
        folder,
        title=scene.name,
        cameras=request.cameras,
        cleaning=settings.cleaning,
        seed=settings.seed,
        progress=progress,
    )


def _load(
    scene: SceneInputs, request: SceneRequest, model: LoadedModel, progress: Progress
) -> LoadedViews:
    settings = request.settings
    # A lower bound, before anything is read: how many frames a video has is not known yet.
    images = sum(source.kind == "image" for source in scene.sources)
    require_views(model.predictor, min(images, settings.max_views or images))
    loaded = load_views(
        scene.sources,
        request.fit if model is request.model else fitting_of(model.predictor),
        fps=settings.fps,
        ignore_masks=settings.ignore_masks,
        max_views=settings.max_views,
        progress=progress,
    )
    if not loaded.views:
        failed = [*scene.failed, *loaded.failed]
        lines = [f"  {failure.item}: {failure.reason}" for failure in failed]
        raise NothingUsableError("\n".join([f"no picture of {scene.name} can be used:", *lines]))
    return loaded


def _write(
    scene: Reconstruction | LocalViews,
    folder: Path,
    title: str,
    settings: InferSettings,
    progress: Progress,
) -> WrittenFiles:
    progress.begin("write", total=len(settings.formats), unit="formats")
    cleaned = None
    if isinstance(scene, Reconstruction):
        cleaned = clean_cloud(scene, settings.cleaning)
    files = save_reconstruction(
        scene,
        folder,
        settings.formats,
        cloud=cleaned,
        title=title,
        keep_exif=settings.keep_exif,
        on_format=lambda name: progress.advance(format=name),
    )
    return WrittenFiles(files, cleaned)


@contextmanager
def _cleaning_memory(scene: str) -> Iterator[None]:
    """Say what helps where memory runs out outside the model's pass, which says so itself.

    Raises:
        OutOfMemoryError: The block ran out of it.
    """
    try:
        with profiling.memory_limits():
            yield
    except profiling.AllocationError as error:
        raise OutOfMemoryError(
            f"{scene}: no memory is left to clean and write the points",
            hint="fewer views (--max-views), smaller ones (--size), fewer points (--max-points) "
            "or fewer formats at once",
        ) from error


def _compile(
    model: LoadedModel, views: Sequence[LoadedView], head: HeadName, progress: Progress
) -> None:
    """Compile the student for a scene's images; where that fails it runs as it is."""
    student = model.student
    assert student is not None, "no other model can be compiled"
    plan = plan_pass(student, views, head=head)
    progress.begin("compile", total=1, unit="student")
    sizes = [view.fitted.placement.size for view in views]
    with stopwatch(model.device) as watch:
        images = [torch.zeros(3, *size) for size in sizes]
        reason = compile_parts(student, images, head=head, head_chunk=plan.head_chunk)
    progress.advance()
    if reason is None:
        progress.note(f"compiled in {watch.seconds:.0f} s")
    else:
        progress.note(f"warning: not compiled, running as it is: {reason}")
