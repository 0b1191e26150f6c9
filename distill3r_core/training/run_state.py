"""What a run is put together from, and what changes during training."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from distill3r_core.data.loading.batches import Samples
from distill3r_core.data.loading.teacher_features import FeatureSource
from distill3r_core.errors import DamageError
from distill3r_core.io.checksums import STATE
from distill3r_core.losses import Objective
from distill3r_core.models.reliability_calibration import ReliabilityCalibration
from distill3r_core.problems import describe_fault
from distill3r_core.training import checkpoints
from distill3r_core.training.distributed import World
from distill3r_core.training.freezing import Freezer
from distill3r_core.training.schedule import Extension
from distill3r_core.training.settings import TrainSettings

Ending = Literal["complete", "patience", "time"]
_RANDOM, _DEVICE_RANDOM = "rng", "device_rng"  # keys of torch's random states


@runtime_checkable  # tests check types at run time
class SaveModel(Protocol):
    """Writes the student with its metadata."""

    def __call__(self, path: Path, *, calibration: ReliabilityCalibration | None) -> None: ...


@dataclass
class TrainState:
    """What changes during a run, beside weights and optimizer; kept in checkpoints."""

    step: int = 0
    micro_batch: int = 1
    best: float = math.inf  # held-out loss of the checkpoint `best`
    best_step: int | None = None
    best_validation: dict[str, float] | None = None  # metrics of the checkpoint `best`
    validations_without_improvement: int = 0
    validated_step: int | None = None  # step of the last validation
    skipped_in_a_row: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    last_validation: dict[str, float] | None = None


@dataclass(frozen=True)
class TrainComponents:
    """What a run is put together from.

    Args:
        freezer: Keeps the parts of the student that are not trained as they are.
        features: Where the teacher features that it reads come from; None: it reads none.
        batches: This process's share of every step from a given one on, each until the next.
        held_out: This process's share of the validation samples; None: there are none.
    """

    run: Path
    settings: TrainSettings
    world: World
    student: nn.Module
    trained: nn.Module  # the same, wrapped where several processes train it
    optimizer: torch.optim.Optimizer  # optimizer over the student's parameters
    loss: Objective
    freezer: Freezer
    features: FeatureSource | None
    steps: int  # length of the run, extensions included
    extensions: tuple[Extension, ...]
    batches: Callable[[int], Generator[Samples, None, None]]
    held_out: Callable[[], Iterable[Samples]] | None
    calibrate: Callable[
        [], ReliabilityCalibration | None
    ]  # measures the student on held-out samples
    save_model: SaveModel
    best_by: str  # figure of validation rows that `best` has the least of
    bfloat16: bool  # whether matrix products run in bfloat16
    labels: Mapping[str, str] = field(default_factory=dict)  # cache of each held-out sample
    origin: Mapping[str, Any] = field(default_factory=dict)  # whose checkpoints these are

    @property
    def first_steps(self) -> int:
        """Length of the run without extensions."""
        return self.extensions[0].start if self.extensions else self.steps


def state_as_plain(state: TrainState) -> dict[str, Any]:
    """The state as plain data for JSON, which has no infinity."""
    plain = dict(vars(state))
    plain.pop("step")
    plain["best"] = None if math.isinf(state.best) else state.best
    return plain


def state_from(checkpoint: checkpoints.Checkpoint) -> TrainState:
    """The inverse of `state_as_plain`.

    Raises:
        DamageError: A value is missing, or is not of its type.
    """
    path = checkpoint.folder / STATE
    plain = {
        name: checkpoint.state[name]
        for name in TrainState.__dataclass_fields__
        if name in checkpoint.state
    }
    if plain.setdefault("best", None) is None:
        plain["best"] = math.inf
    if missing := [name for name in TrainState.__dataclass_fields__ if name not in plain]:
        raise DamageError(f"{path} is damaged: it lacks {', '.join(missing)}")
    try:
        state = TypeAdapter(TrainState).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "state"
        raise DamageError(f"{path} is damaged: {name}: {describe_fault(first)}") from error
    if state.micro_batch < 1 or math.isnan(state.best):
        raise DamageError(f"{path} is damaged: micro_batch or best is no such number")
    return state


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's random numbers, on the CPU and on a GPU that is trained on."""
    states = {_RANDOM: torch.get_rng_state()}
    if device.type == "cuda":
        states[_DEVICE_RANDOM] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(kept: Mapping[str, Any], device: torch.device) -> None:
    """The inverse of `random_states`; what was kept without a GPU leaves its numbers alone."""
    torch.set_rng_state(kept[_RANDOM])
    if device.type == "cuda" and _DEVICE_RANDOM in kept:
        torch.cuda.set_rng_state(kept[_DEVICE_RANDOM], device)
