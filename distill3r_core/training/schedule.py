"""How long a run is, and its learning rate at every step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill3r_core.training.settings import Extend, OptimSettings, ScheduleSettings, TrainSettings


@dataclass(frozen=True)
class Extension:
    """Steps that were added to a run."""

    start: int  # length of the run before
    end: int  # its length with them
    rate: Extend


def run_length(settings: TrainSettings, *, samples: int, effective_batch: int) -> int:
    """Optimizer steps of a run: `--max-steps`, else `--epochs`, else what the schedule says.

    Args:
        effective_batch: Samples of an optimizer step, over all processes.
    """
    schedule = settings.schedule
    if settings.max_steps is not None:
        return settings.max_steps
    if settings.epochs is None and schedule.steps is not None:
        return schedule.steps
    epochs = settings.epochs or schedule.epochs or 1
    # An epoch that does not fill a step is filled by drawing again: a step at least.
    return max(epochs, samples * epochs // effective_batch)


def warmup_length(schedule: ScheduleSettings, steps: int) -> int:
    """Steps of the linear part of a run of `steps`."""
    if schedule.warmup_steps is not None:
        return schedule.warmup_steps
    return round(schedule.warmup_share * steps)


def learning_rate(
    step: int,
    *,
    steps: int,
    optim: OptimSettings,
    schedule: ScheduleSettings,
    extensions: Sequence[Extension] = (),
) -> float:
    """The rate of optimizer step `step`, counted from 0 (in the release, the first has rate 0).

    Args:
        steps: Length of the run, without extensions.
        extensions: What was added to it, in order.
    """
    if extensions and step >= (last := extensions[-1]).start:
        if last.rate == "cosine":
            done = min(1.0, (step - last.start) / (last.end - last.start))
            return _cosine(done, optim, schedule)
        step = last.start  # the rate at which the run had ended
    if extensions:
        return learning_rate(
            step, steps=steps, optim=optim, schedule=schedule, extensions=extensions[:-1]
        )
    warmup = warmup_length(schedule, steps)
    if step < warmup:
        return optim.lr * step / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return _cosine(done, optim, schedule)


def _cosine(done: float, optim: OptimSettings, schedule: ScheduleSettings) -> float:
    """From the peak at 0 to the final rate at 1."""
    return schedule.final_lr + (optim.lr - schedule.final_lr) * (1 + math.cos(math.pi * done)) / 2
