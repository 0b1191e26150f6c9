"""`train`: a student learns what the teacher cache says."""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from distill3r_core import config, plugins
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.sample_sources import read_views
from distill3r_core.data.loading.teacher_features import CachedFeatures, FeatureSource
from distill3r_core.io.checksums import ORIGIN, OWNER
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.losses import Objective
from distill3r_core.models.checkpoint import save_student
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.reliability_calibration import ReliabilityCalibration
from distill3r_core.models.student import Student
from distill3r_core.profiling import machine, pick_device
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.runs.run_record import IMAGE_HASHES, read_record
from distill3r_core.stages.train.caches import describe_caches, open_finished, resolve_metric
from distill3r_core.stages.train.image_pairs import training_pairs
from distill3r_core.stages.train.overwriting import deletion_of
from distill3r_core.stages.train.predicted_size import begin_with_size
from distill3r_core.stages.train.run_folder import (
    LOG,
    LOSS_CHART,
    PREDICTIONS,
    RunFolder,
    check_run,
    decide_map_size,
    identity_of,
    is_ours,
    open_run,
    resume_command,
    steps_of,
)
from distill3r_core.stages.train.scenes import learn_scenes, unit_of
from distill3r_core.stages.train.side_files import describe_run, mend_description
from distill3r_core.stages.train.student import Start, prepare_terms, restore, start_student
from distill3r_core.stages.train.student_input import check_input, fit_of_student
from distill3r_core.stages.train.train_report import (
    LoggedProgress,
    figures,
    finished_report,
    report,
)
from distill3r_core.system.interrupts import interrupts_between_steps
from distill3r_core.training.calibrate_reliability import CalibrationSamples, calibrate
from distill3r_core.training.distributed import World
from distill3r_core.training.feed import Feed, build_feed
from distill3r_core.training.freezing import Freezer
from distill3r_core.training.loop import TrainLoop
from distill3r_core.training.metrics_log import FILE as METRICS
from distill3r_core.training.metrics_log import MetricsLog
from distill3r_core.training.run_images import save_loss_chart, save_predictions
from distill3r_core.training.run_state import SaveModel, TrainComponents, TrainState
from distill3r_core.training.schedule import Extension, warmup_length
from distill3r_core.training.settings import TrainSettings, default_preset
from distill3r_core.training.step import build_optimizer, prepare_memory
from distill3r_core.training.tensorboard import TensorBoardWriter, summary_writer
from distill3r_core.training.train_logger import TrainLogger
from distill3r_core.training.validation import figure_of_best

__all__ = ["TrainSettings", "default_preset", "train"]


def train(
    settings: TrainSettings,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = Silent(),
) -> Report:
    """Train a student from teacher caches into a run folder.

    Args:
        resume: Continue from the last checkpoint; start where there is none.
        overwrite: Replace another run in the folder that was named.

    Raises:
        InputMissingError: There is no cache.
        CacheError: One lacks planned samples, or they differ in size.
        NothingUsableError: No cache holds training samples.
        ConflictError: The run folder holds another run.
        KeyboardInterrupt: Interrupted; the last step is in a checkpoint.
        DivergedError: Step after step was not finite.
        OutOfMemoryError: One sample does not fit.
        DiskFullError: A checkpoint did not fit on the disk; the one before it is whole.
    """
    world = World.from_environment()
    cache = open_finished(settings, progress)
    settings = resolve_metric(settings, cache, progress)
    device = world.device(pick_device(settings.device))
    prepare_memory(device)
    with world.joined(device), ExitStack() as stack:
        resume = resume or is_ours(settings, world)
        settings = decide_map_size(
            settings, cache, processes=world.size, resume=resume, overwrite=overwrite
        )
        identity = identity_of(settings, cache, processes=world.size)
        steps = steps_of(settings, cache, processes=world.size)
        folder = RunFolder(Path(), identity, finished=False, steps=steps)
        if world.leads:
            folder = check_run(settings, identity, steps=steps, resume=resume, overwrite=overwrite)
            read_record(folder.path, warn=progress.note)
            deleted = deletion_of(folder.path) if overwrite and not resume else None
            if deleted is not None and not folder.finished:
                progress.note(f"--overwrite deletes {deleted}")
        folder = _agreed(folder, world)
        if folder.finished:
            if world.leads:
                mend_description(folder, settings, cache, progress)
            return finished_report(settings, folder)
        # The run has random numbers of its own, and leaves the caller's as they were.
        gpus = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=gpus))
        torch.manual_seed(settings.seed)
        noted = stack.enter_context(LoggedProgress(progress))
        # All that can be wrong with the settings is found before anything is written.
        resumed = folder.path if resume else None
        ready = _prepare(settings, cache, world, device, noted, resumed=resumed)
        if world.leads:
            folder = stack.enter_context(
                open_run(
                    settings,
                    identity,
                    steps=steps,
                    resume=resume,
                    overwrite=overwrite,
                    launch=world.launch,
                )
            )
        folder = _agreed(folder, world)
        if folder.finished:  # meanwhile, by another process
            return finished_report(settings, folder)
        if world.leads:
            noted.keep(folder.path / LOG)
        return _train(settings, cache, folder, ready, world, device, noted)


def _agreed(folder: RunFolder, world: World) -> RunFolder:
    """What the leading process found out about the folder."""
    extensions = [asdict(extension) for extension in folder.extensions]
    found = world.agree(json.dumps([str(folder.path), folder.finished, extensions]))
    path, finished, extensions = json.loads(found)
    return replace(
        folder,
        path=Path(path),
        finished=finished,
        extensions=tuple(Extension(**values) for values in extensions),
        launch=world.launch,
    )


@dataclass(frozen=True)
class _Ready:
    """What a run is made of, before it has a folder.

    Args:
        features: Where the teacher features that it reads come from; None: it reads none.
        optimizer: Optimizer over the parameters of the student and of the objective.
    """

    fit: ImageFit  # how images become the student's input
    feed: Feed
    start: Start
    student: Student
    loss: Objective
    features: FeatureSource | None
    optimizer: torch.optim.Optimizer
    freezer: Freezer
    best_by: str  # figure of validation rows that the checkpoint `best` has the least of


def _prepare(
    settings: TrainSettings,
    cache: CacheUnion,
    world: World,
    device: torch.device,
    progress: Progress,
    *,
    resumed: Path | None,
) -> _Ready:
    if settings.tensorboard:
        summary_writer()
    describe_caches(cache, progress)
    fit = fit_of_student(settings, cache.header, progress)
    pairs = partial(training_pairs, cache, size=fit.resized, device=device)
    start = start_student(settings, progress, resumed=resumed, read_pairs=pairs)
    check_input(start.student.spec, settings.data, fit)
    dtype = torch.float64 if settings.compute.precision == "float64" else None
    scenes = learn_scenes(settings, cache, start.student, fit, progress)
    if not start.restored:
        begin_with_size(start.student, cache)
    student = start.student.to(device, dtype)
    # After the student: terms with parameters leave its random weights as they are.
    loss = Objective(settings.loss.all_terms).to(device, dtype)
    features = None
    if loss.features.teacher:
        # Teachers are many modules, which a run without their features does not need.
        from distill3r_core.stages.train.features import open_features

        wanted = loss.features.teacher
        features, licenses = open_features(settings, cache, wanted, device, progress)
        start = replace(start, licenses=tuple(dict.fromkeys([*start.licenses, *licenses])))
        prepare_terms(student, loss, features.channels())
        loss.to(device, dtype)
    feed = build_feed(
        cache,
        replace(settings.data, size=fit.resized),
        validation_samples=settings.validation.samples,
        seed=settings.seed,
        world=world,
        device=device,
        features=features if isinstance(features, CachedFeatures) else None,
        scenes=scenes,
    )
    if not feed.held_out:
        progress.note("no held-out samples in the cache: nothing is validated, `best` is `last`")
    freezer = Freezer(student, settings.optim)
    optimizer = build_optimizer(student, settings.optim, terms=loss)
    best_by = figure_of_best(settings.validation.best, student, loss)
    return _Ready(fit, feed, start, student, loss, features, optimizer, freezer, best_by)


def _train(
    settings: TrainSettings,
    cache: CacheUnion,
    folder: RunFolder,
    ready: _Ready,
    world: World,
    device: torch.device,
    progress: Progress,
) -> Report:
    feed, student, loss, steps = ready.feed, ready.student, ready.loss, folder.steps
    state = restore(folder.path, student, ready.optimizer, loss, settings, progress)
    if world.leads:
        describe_run(folder, settings, cache)
    parts = TrainComponents(
        run=folder.path,
        settings=settings,
        world=world,
        student=student,
        trained=_wrapped(student, loss) if world.size > 1 else student,
        optimizer=ready.optimizer,
        loss=loss,
        freezer=ready.freezer,
        features=ready.features,
        steps=steps,
        extensions=folder.extensions,
        batches=feed.batches,
        held_out=feed.validation if feed.held_out else None,
        calibrate=_calibrator(feed, student, metric=bool(settings.loss.metric)),
        save_model=_saver(settings, cache, ready.fit, ready.start, state),
        best_by=ready.best_by,
        bfloat16=settings.compute.precision == "bfloat16"
        or (settings.compute.precision == "auto" and device.type == "cuda"),
        labels=feed.labels,
        origin={OWNER: folder.owner, ORIGIN: folder.origin},
    )
    _warn_of_warmup(settings, parts.first_steps, progress)
    if folder.extensions and state.step < steps:
        added = folder.extensions[-1]
        progress.note(
            f"extended from {added.start} to {added.end} steps (schedule.extend: {added.rate})"
        )
    log = _open_log(settings, folder, progress, after=state.step) if world.leads else None
    with interrupts_between_steps() as stop_flag, closing(log) if log else nullcontext():
        try:
            ending = TrainLoop(
                parts, state, TrainLogger(parts, state, log, progress), progress
            ).run(stop_flag)
        except KeyboardInterrupt:
            command = resume_command(folder.path)
            progress.note(f"interrupted after step {state.step}; resume with `{command}`")
            raise
    if world.leads:
        labels = parts.loss.labels
        save_loss_chart(folder.path / LOSS_CHART, folder.path / METRICS, terms=labels)
        if parts.held_out is not None:
            shown = {"compute": settings.compute, "bfloat16": parts.bfloat16}
            save_predictions(folder.path / PREDICTIONS, student, parts.held_out(), **shown)
        folder.record(
            finished=ending != "time", machine=machine(device), **figures(state, folder.steps)
        )
    return report(settings, folder, state, device, steps=steps, ending=ending)


def _wrapped(student: Student, loss: Objective) -> DistributedDataParallel:
    """The student for training in several processes."""
    return DistributedDataParallel(
        student,
        # Only batch norms have buffers that are no constants: those of the leading process, which
        # writes the checkpoints.
        broadcast_buffers=any(isinstance(part, _BatchNorm) for part in student.modules()),
        # Without its terms, a head gets no gradient.
        find_unused_parameters=any(options.weight == 0 for options in loss.options.values()),
    )


def _open_log(
    settings: TrainSettings, folder: RunFolder, progress: Progress, *, after: int
) -> MetricsLog:
    tensorboard = TensorBoardWriter(folder.path, after=after) if settings.tensorboard else None
    return MetricsLog(
        folder.path / METRICS, after=after, tensorboard=tensorboard, warn=progress.note
    )


def _warn_of_warmup(settings: TrainSettings, steps: int, progress: Progress) -> None:
    warmup = warmup_length(settings.schedule, steps)
    if warmup < steps:
        return
    progress.note(
        f"warning: the warm-up takes {warmup} steps and the run has {steps}: the learning rate "
        f"never reaches {settings.optim.lr:g}; --set schedule.warmup_steps=null makes it "
        f"{settings.schedule.warmup_share:.0%} of the run"
    )


def _calibrator(
    feed: Feed, student: Student, *, metric: bool
) -> Callable[[], ReliabilityCalibration | None]:
    """What measures the student on held-out samples; it returns None where there are none."""
    if not feed.held_out:
        return lambda: None
    samples = CalibrationSamples(
        held_out={name: feed.available[name] for name in feed.held_out},
        train={name: feed.available[name] for names in feed.train.values() for name in names},
        read=partial(read_views, feed.source),
        metric=metric,
    )
    return partial(calibrate, student, samples)


def _saver(
    settings: TrainSettings, cache: CacheUnion, fit: ImageFit, start: Start, state: TrainState
) -> SaveModel:
    headers = [member.cache.header for member in cache.members]
    metadata = StudentMetadata(
        preset=settings.preset,
        spec=start.student.spec,
        size=fit.resized or fit.size,
        fit=fit.as_plain(),
        teacher=" + ".join(dict.fromkeys(header.teacher for header in headers)),
        licenses=tuple(dict.fromkeys([*(one.license for one in headers), *start.licenses])),
        unit=unit_of(settings, start.student.spec),
        pictures=IMAGE_HASHES,
        processing=dict(cache.header.processing),
        # Where a run lies is not what it is: two equal runs have equal files.
        settings={k: v for k, v in config.as_plain(settings).items() if k != "output"},
        plugins=plugins.hashes(),
        origin=start.description,
    )

    def save(path: Path, *, calibration: ReliabilityCalibration | None) -> None:
        described = replace(metadata, step=state.step, calibration=calibration)
        save_student(path, start.student, described, durable=True)

    return save
