"""The student that a run starts or resumes with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from distill3r_core.errors import ConfigError
from distill3r_core.losses import Objective
from distill3r_core.models.build import build_from_spec, build_student
from distill3r_core.models.checkpoint import (
    check_tensors,
    load_student,
    read_metadata,
    read_student,
)
from distill3r_core.models.families import family_of, preset_spec
from distill3r_core.models.student import Student
from distill3r_core.models.warm_starts.pair_starts import WARM_STARTS
from distill3r_core.models.warm_starts.warm_start import ImagePairs
from distill3r_core.report import Progress
from distill3r_core.stages.train.predicted_size import settle_size
from distill3r_core.training import checkpoints
from distill3r_core.training.faults import smaller_passes
from distill3r_core.training.run_state import TrainState, restore_random_states, state_from
from distill3r_core.training.settings import TrainSettings
from distill3r_core.training.step import recorded_outputs
from distill3r_core.types import PointMaps

_TRAINED = "trained from "


@dataclass(frozen=True)
class Start:
    """A student at the start of a run."""

    student: Student  # on the CPU, in training mode
    origin: str  # where its weights come from, in words
    licenses: tuple[str, ...] = ()
    restored: bool = False  # its weights are those of a checkpoint, which are read later
    # What to say of an encoder of random weights; None: it has none.
    scratch: str | None = None

    @property
    def description(self) -> str:
        """What the metadata of a student say about its origin."""
        return _TRAINED + self.origin


ReadPairs = Callable[[int], ImagePairs]  # of some training images


def start_student(
    settings: TrainSettings,
    progress: Progress,
    *,
    resumed: Path | None = None,
    read_pairs: ReadPairs | None = None,
) -> Start:
    """The student that a run starts with; random weights come from torch's global numbers.

    Args:
        read_pairs: Reads the training images on which a warm start measures, so many; needed where
            `settings.init_images` is set.
        resumed: Folder of the run that is continued. Where it has a checkpoint, the student is of
            the spec and origin recorded there, and its weights are left to `restore`: encoder
            files on this machine may have come or gone since.

    Raises:
        ConfigError: `model` names something that no student has, or the warm start does not fit.
        InputMissingError: There is no file where `--from` or `encoder_weights` points.
        WeightsError: The file there does not hold what it should.
        DamageError: All checkpoints of the run that is continued are damaged.
    """
    _check_warm_start(settings)
    # `restore` says which checkpoints are damaged.
    found = None if resumed is None else checkpoints.newest(resumed, warn=lambda message: None)
    if found is not None:
        metadata = read_metadata(found.model)
        origin = metadata.origin.removeprefix(_TRAINED)
        start = Start(build_from_spec(metadata.spec), origin, metadata.licenses, restored=True)
    else:
        start = _weights(settings, progress)
        if settings.warm_start is not None:
            start = _warm(start, settings, progress, read_pairs)
        if start.scratch is not None:
            _warn_of_random_encoder(start.scratch, settings, progress)
    start.student.train()
    freeze_unused(start.student)
    settle_size(start.student, settings)
    return start


def _weights(settings: TrainSettings, progress: Progress) -> Start:
    if settings.start is not None:
        student = load_student(settings.start)
        progress.note(f"starting from the weights in {settings.start}")
        licenses = student.metadata.licenses if student.metadata else ()
        return Start(student, f"the weights in {settings.start}", licenses)
    student = build_student(settings.preset, **settings.model)
    wanted = settings.encoder_weights
    initializer = next(iter(family_of(student.spec).initializers(student.spec)), None)
    if wanted == "none":
        return Start(student, "random weights", scratch="")
    if initializer is None:
        usual = preset_spec(settings.preset)
        changed = any(family_of(usual).initializers(usual))
        warning = (
            "WARNING: the encoder starts from scratch: with these settings it is not the published "
            f"one of {settings.preset}"
        )
        return Start(student, "random weights", scratch=warning if changed else "")
    file = initializer.find() if wanted == "auto" else Path(wanted)
    if file is None:
        absent, name = initializer.missing(), initializer.name
        warning = (
            f"WARNING: the encoder starts from scratch, not from {name} as in the paper, and will "
            f"be far worse: {absent.message}\n{absent.hint}"
        )
        origin = f"random weights, its encoder too: {name}'s file was not found"
        return Start(student, origin, scratch=warning)
    progress.note(f"the encoder starts from {file}")
    student = initializer.build(file, student.spec)
    origin = f"the encoder in {file.name}, the rest random"
    return Start(student, origin, (initializer.license,))


def _check_warm_start(settings: TrainSettings) -> None:
    """Refuse a warm start without its file, and a file without a warm start.

    Raises:
        ConfigError: One is given without the other, or beside `--from`.
    """
    name, file, images = settings.warm_start, settings.init_from, settings.init_images
    if file is not None and name is None:
        raise ConfigError(
            f"init_from: {file} is given, and init is none", hint="--set init=subspace"
        )
    if images is not None and (name is None or WARM_STARTS[name].measure is None):
        raise ConfigError(
            f"init_images: {images}; init {name or 'none'} measures nothing",
            hint="--set init=subspace --set init_from=FILE, or leave it out",
        )
    if name is None:
        return
    if file is None:
        raise ConfigError(
            f"init: {name} starts from the file of a larger network, and none is named",
            hint="--set init_from=FILE, such as the model.safetensors of MASt3R",
        )
    if settings.start is not None:
        raise ConfigError(
            f"init: {name} and --from {settings.start}: a run starts in one way",
            hint="leave out --from, or init and init_from",
        )


def _warm(
    start: Start, settings: TrainSettings, progress: Progress, read_pairs: ReadPairs | None
) -> Start:
    """The student with what its warm start takes from a larger network."""
    name, file = settings.warm_start, settings.init_from
    assert name is not None and file is not None, "checked before"
    record, family = WARM_STARTS[name], start.student.spec.family
    if record.family != family:
        raise ConfigError(
            f"init: {name} starts students of the family {record.family!r}, not {family!r}",
            hint="--set init=none",
        )
    if settings.init_images is None:
        found = record.start(start.student, file)
    else:
        assert record.measure is not None and read_pairs is not None, "checked before"
        pairs = read_pairs(settings.init_images)
        progress.note(f"init: running the network of {file} on {2 * len(pairs.images)} images")
        found = record.measure(start.student, file, pairs)
    progress.note(f"warm start: {found.summary}")
    licenses = tuple(dict.fromkeys([*start.licenses, *found.licenses]))
    scratch = None if found.encoder else start.scratch
    return Start(start.student, f"{start.origin}; {found.summary}", licenses, scratch=scratch)


def _warn_of_random_encoder(warning: str, settings: TrainSettings, progress: Progress) -> None:
    """Say that an encoder starts from scratch where it need not, and that it stays as it is."""
    if warning:
        progress.note(warning)
    if "encoder" in settings.optim.freeze and settings.optim.freeze_steps is None:
        progress.note("WARNING: the encoder has random weights, and optim.freeze keeps them")


def freeze_unused(student: Student) -> None:
    """Take parameters that no forward pass reads out of training: DDP would wait for them.

    Students that keep the names of the released checkpoints carry some. The running means of batch
    norms stay as they are.
    """
    training = student.training
    family = family_of(student.spec)
    side = 2 * (family.smallest or family.multiple)(student.spec)
    views = min(2, family.views.maximum)
    numbers = torch.arange(views)[None]
    student.eval()  # statistics of batch norms are left as they are
    maps = student(torch.zeros(1, views, 3, side, side), view_numbers=numbers)
    assert isinstance(maps, PointMaps)
    predicted = (getattr(maps, field.name) for field in fields(maps))
    torch.stack([part.sum() for part in predicted if part is not None]).sum().backward()
    for parameter in student.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    student.train(training)


def prepare_terms(student: Student, loss: Objective, channels: Mapping[str, int]) -> None:
    """Build the parameters of the terms, from what the student gives in a small pass.

    Args:
        channels: Channels of the teacher's layers that the terms read.
    """
    family = family_of(student.spec)
    side, views = 2 * family.multiple(student.spec), min(2, family.views.maximum)
    student.eval()
    parameter = next(student.parameters())
    images = parameter.new_zeros(1, views, 3, side, side)
    with torch.no_grad(), recorded_outputs(student, loss.features.student) as outputs:
        student(images, view_numbers=torch.arange(views, device=parameter.device)[None])
    student.train()
    loss.prepare(outputs, channels)


def restore(
    run: Path,
    student: Student,
    optimizer: torch.optim.Optimizer,
    loss: Objective,
    settings: TrainSettings,
    progress: Progress,
) -> TrainState:
    """Bring student and optimizer to the newest whole checkpoint of a run; its state.

    Raises:
        DamageError: There are checkpoints, and all of them are damaged.
        WeightsError: The checkpoint was made by an earlier version.
    """
    fits = checkpoints.read_micro_batch(run, warn=progress.note)
    if fits is not None and fits < settings.data.batch:
        samples = settings.data.batch * settings.data.accumulation
        progress.note(smaller_passes(fits, samples=samples))
    found = checkpoints.newest(run, warn=progress.note)
    if found is None:
        return TrainState(micro_batch=min(settings.data.batch, fits or settings.data.batch))
    weights, _ = read_student(found.model)
    check_tensors(weights, student.spec, source=str(found.model))
    student.load_state_dict(weights)
    kept = found.optimizer()
    optimizer.load_state_dict(kept["optimizer"])
    loss.load_state_dict(kept["objective"])
    restore_random_states(kept, next(student.parameters()).device)
    state = state_from(found)
    state.micro_batch = min(state.micro_batch, fits or state.micro_batch)
    relink(run, state)
    progress.note(f"resuming from step {state.step}")
    return state


def relink(run: Path, state: TrainState) -> None:
    """Make `last` and `best` what they were at a checkpoint that was gone back to."""
    checkpoints.link(run, checkpoints.LAST, state.step)
    if state.best_step is not None and not checkpoints.link_best(run, state.best_step):
        state.best, state.best_step, state.best_validation = float("inf"), None, None
