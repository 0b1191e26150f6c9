"""How long a run is, and its learning rate at every step."""

import math

from distill3r_core.training.settings import OptimSettings, ScheduleSettings, TrainSettings


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
    step: int, *, steps: int, optim: OptimSettings, schedule: ScheduleSettings
) -> float:
    """The rate of optimizer step `step`, counted from 0 (in the release, the first has rate 0)."""
    warmup = warmup_length(schedule, steps)
    if step < warmup:
        return optim.lr * step / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return schedule.final_lr + (optim.lr - schedule.final_lr) * (1 + math.cos(math.pi * done)) / 2
