"""The training loop: draw, step, validate, save; and what is done when one of them fails."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from distill3r_core.data.loading.batches import Samples
from distill3r_core.errors import DivergedError, OutOfMemoryError
from distill3r_core.profiling import AllocationError, memory_limits
from distill3r_core.report import Progress
from distill3r_core.system.interrupts import StopFlag
from distill3r_core.training import checkpoints, faults
from distill3r_core.training.run_state import (
    Ending,
    TrainComponents,
    TrainState,
    random_states,
    state_as_plain,
)
from distill3r_core.training.running_means import RunningMeans
from distill3r_core.training.schedule import learning_rate
from distill3r_core.training.step import StepMetrics, accumulate, clip_gradients
from distill3r_core.training.train_logger import TrainLogger
from distill3r_core.training.validation import validate

_HOUR = 3600.0


@dataclass
class TrainLoop:
    """Takes a run from where its state is to its end."""

    parts: TrainComponents
    state: TrainState
    logger: TrainLogger
    progress: Progress
    _started: float = field(default_factory=time.monotonic)
    _saved: int = -1  # step of the last checkpoint
    _kept: Mapping[str, Any] = field(default_factory=dict)  # its state
    _means: RunningMeans = field(init=False)

    def __post_init__(self) -> None:
        self._means = RunningMeans(self.parts.student)

    def run(self, stop_flag: StopFlag) -> Ending:
        """Train to the end, to the end of patience, or to that of `max_hours`.

        Raises:
            KeyboardInterrupt: The run was asked to stop; the last step is in a checkpoint.
            DivergedError: Too many steps in a row were not finite.
            OutOfMemoryError: One sample alone does not fit.
        """
        parts, state = self.parts, self.state
        self.progress.begin("train", total=parts.steps, unit="steps", done=state.step)
        self._saved, self._kept = state.step, state_as_plain(state)
        ending = None
        if state.step > 0:  # what a run that was stopped at a step had still to do there
            ending = self._validate_and_save()
            self._checkpoint()
        if ending is None:
            with closing(parts.batches(state.step)) as batches:
                ending = self._steps(batches, stop_flag)
        self._finish()
        return ending

    def _steps(self, batches: Iterator[Samples], stop_flag: StopFlag) -> Ending:
        """Step after step; why it went no further."""
        while self.state.step < self.parts.steps:
            begun = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - begun
            metrics, norm, stop = self._step(batch, stop_flag)
            seconds = time.monotonic() - begun
            self.logger.step(metrics, norm, seconds=seconds, waited=waited, samples=len(batch))
            if stop:
                self._checkpoint()
                raise KeyboardInterrupt
            ending = self._validate_and_save()
            if ending is None and self._out_of_time():
                ending = "time"
            if ending is not None:
                return ending
        return "complete"

    def _step(self, batch: Samples, stop_flag: StopFlag) -> tuple[StepMetrics, float, bool]:
        """One optimizer step: metrics over all processes, gradient norm, whether to stop."""
        parts, state, settings = self.parts, self.state, self.parts.settings
        for group in parts.optimizer.param_groups:
            group["lr"] = learning_rate(
                state.step,
                steps=parts.first_steps,
                optim=settings.optim,
                schedule=settings.schedule,
                extensions=parts.extensions,
            )
        parts.freezer.before(state.step)
        self._means.keep()
        totals = self._accumulate(batch)
        parts.freezer.after(state.step)
        clip = settings.optim.clip or math.inf
        of_terms = [parameter for parameter in parts.loss.parameters() if parameter.requires_grad]
        for parameter in of_terms:  # the wrapper averages the gradients of the student alone
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parts.world.sum(parameter.grad).div_(parts.world.size)
        norms = clip_gradients(parts.student, of_terms, limit=clip)
        flag = torch.tensor([float(stop_flag.stop)], device=totals.device)
        values_and_flag = torch.cat([totals / parts.world.size, flag])
        # The one place in a step where the processor waits for the device.
        *values, stop = parts.world.sum(values_and_flag).tolist()
        lengths = norms.tolist()
        metrics = StepMetrics.from_values(values, terms=parts.loss.names)
        if all(map(math.isfinite, (metrics.loss, *lengths))):
            parts.optimizer.step()
            state.skipped_in_a_row = 0
        else:
            self._skip(batch, metrics, sum(lengths))
        state.step += 1
        return metrics, lengths[0], stop > 0

    def _accumulate(self, batch: Samples) -> Tensor:
        """Gradients of a batch; with a smaller micro-batch where it does not fit."""
        parts, state = self.parts, self.state
        while True:
            parts.optimizer.zero_grad(set_to_none=True)
            try:
                with memory_limits():
                    return accumulate(
                        parts.trained,
                        parts.loss,
                        batch,
                        features=parts.features,
                        micro_batch=state.micro_batch,
                        compute=parts.settings.compute,
                        bfloat16=parts.bfloat16,
                    )
            except AllocationError as error:
                reason = str(error).splitlines()[0]
            self._make_room(reason, samples=len(batch))

    def _make_room(self, reason: str, *, samples: int) -> None:
        parts, state = self.parts, self.state
        parts.optimizer.zero_grad(set_to_none=True)
        self._means.restore()
        if state.micro_batch == 1:
            raise OutOfMemoryError(
                f"one sample does not fit into memory: {reason}",
                hint="--recompute all, fewer data.views, or a smaller data.size",
            )
        state.micro_batch = (state.micro_batch + 1) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if parts.world.size > 1:
            # The others wait in a collective that this process will never reach. All start again,
            # and the one that leads says why: who ran out of memory is not always heard.
            checkpoints.write_micro_batch(parts.run, state.micro_batch)
            raise OutOfMemoryError(
                f"worker {parts.world.rank} ran out of memory: {reason}",
                hint="continue with --resume: it starts with the smaller micro-batch",
            )
        self.progress.note(faults.smaller_passes(state.micro_batch, samples=samples))

    def _skip(self, batch: Samples, metrics: StepMetrics, norm: float) -> None:
        """Keep and name a step that is not finite, and do without it."""
        parts, state = self.parts, self.state
        state.skipped_in_a_row += 1
        self._means.restore()
        folder = faults.save_step(
            parts.run,
            step=state.step,
            rank=parts.world.rank,
            batch=batch.to(torch.device("cpu")),
            student=parts.student,
            facts={"loss": str(metrics.loss), "gradient_norm": str(norm)},
        )
        names = ", ".join(sorted({draw.name for draw in batch.draws}))
        self.progress.note(
            f"warning: step {state.step} is not finite (loss {metrics.loss}, gradient {norm}) on "
            f"{names}; skipped, kept in {folder}"
        )
        limit = parts.settings.faults.nonfinite_in_a_row
        if state.skipped_in_a_row >= limit:
            raise DivergedError(
                f"{limit} steps in a row were not finite, the last on {names}",
                hint=f"replay one from {folder}, or resume from a checkpoint with a lower optim.lr",
            )

    def _validate_and_save(self) -> Ending | None:
        """Validate and checkpoint where it is time; how the run ends, if it does."""
        state, settings = self.state, self.parts.settings
        if state.step == self.parts.steps:
            return None  # the end does both
        if state.step % settings.validation.every_steps == 0:
            self._validate()
        if state.step % settings.checkpoint.every_steps == 0:
            self._checkpoint()
        patience = settings.validation.patience
        return (
            "patience" if patience and state.validations_without_improvement >= patience else None
        )

    def _validate(self) -> None:
        """Validate on held-out samples; the best checkpoint so far is `best`."""
        parts, state = self.parts, self.state
        if parts.held_out is None or state.validated_step == state.step:
            return
        state.validated_step = state.step
        metrics = validate(
            parts.student,
            parts.held_out(),
            parts.loss,
            features=parts.features,
            compute=parts.settings.compute,
            bfloat16=parts.bfloat16,
            world=parts.world,
            labels=parts.labels,
        )
        self.logger.validation(metrics)
        figure, before = parts.best_by, state.best_validation or {}
        finite = math.isfinite(metrics.loss)  # of the other map, too
        if finite and metrics.row[figure] < before.get(figure, math.inf):
            state.best, state.best_step = metrics.loss, state.step
            state.best_validation = state.last_validation
            state.validations_without_improvement = 0
            self._checkpoint(calibrate=True)
            if parts.world.leads:
                checkpoints.link(parts.run, checkpoints.BEST, state.step)
        else:
            state.validations_without_improvement += 1

    def _checkpoint(self, *, calibrate: bool = False) -> None:
        """Write a checkpoint, if anything has changed since the last one.

        Args:
            calibrate: Measure the student on held-out samples, and store that with its weights.
        """
        parts, state = self.parts, self.state
        plain, saved = state_as_plain(state), self._saved
        if saved == state.step and plain == self._kept:
            return
        self._saved, self._kept = state.step, plain
        if not parts.world.leads:
            return
        self.logger.sync()
        plain = {**plain, **parts.origin}
        if saved == state.step and not calibrate:  # a validation after the step was saved
            checkpoints.save_state(parts.run, step=state.step, state=plain)
            return
        checkpoints.save(
            parts.run,
            step=state.step,
            save_model=partial(
                parts.save_model, calibration=parts.calibrate() if calibrate else None
            ),
            optimizer={
                "optimizer": parts.optimizer.state_dict(),
                "objective": parts.loss.state_dict(),
                **random_states(next(parts.student.parameters()).device),
            },
            state=plain,
        )
        checkpoints.prune(parts.run, keep=parts.settings.checkpoint.keep)

    def _out_of_time(self) -> bool:
        hours = self.parts.settings.max_hours
        if hours is None:
            return False
        over = torch.tensor([float(time.monotonic() - self._started >= hours * _HOUR)])
        if self.parts.world.size > 1:
            over = over.to(next(self.parts.student.parameters()).device)
        return self.parts.world.sum(over).item() > 0

    def _finish(self) -> None:
        # Running means of batch norms as well: a step is checked by its loss and its gradient, and
        # neither shows a mean that is not finite.
        broken = [
            name
            for name, weights in self.parts.student.state_dict().items()
            if not weights.isfinite().all()
        ]
        if broken:  # the guard against steps that are not finite needs several in a row
            raise DivergedError(
                f"the run ends with weights that are not finite (first: {broken[0]})",
                hint="take a lower learning rate: --set optim.lr=...",
            )
        self._validate()
        self._checkpoint(calibrate=True)
