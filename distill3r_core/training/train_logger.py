"""What a run reports during training: metrics of every step, warnings, the time it will take."""

import math
import time
from dataclasses import dataclass, field

from distill3r_core.report import Progress, duration
from distill3r_core.training.faults import NormWatch
from distill3r_core.training.machine_usage import format_machine_usage, machine_usage
from distill3r_core.training.metrics_log import MetricsLog, MovingMean
from distill3r_core.training.run_state import TrainComponents, TrainState
from distill3r_core.training.step import StepMetrics
from distill3r_core.training.validation import SHAPE, ValidationMetrics

_STALE = 1.0  # seconds after which memory is read again: reading it from a GPU takes time
_TIMED = 3  # steps that the expected time is derived from, after the first, which is warm-up


@dataclass
class TrainLogger:
    """Reports steps and validations to the user and to `metrics.jsonl`."""

    parts: TrainComponents
    state: TrainState
    log: MetricsLog | None  # None in all processes but the leading one
    progress: Progress
    _mean_loss: MovingMean = field(default_factory=MovingMean)
    _times: list[float] = field(default_factory=list)
    _machine: dict[str, float] = field(default_factory=dict)
    _asked: float = -math.inf

    def __post_init__(self) -> None:
        parts = self.parts
        growth = parts.settings.faults.runaway
        # A size that is predicted apart is not in the raw points.
        apart = getattr(parts.student, "map_size", None) is not None
        meets = parts.settings.loss.teaches_size and not apart
        self._points_watch = NormWatch(growth, meets=meets)
        self._confidence_watch = NormWatch(growth)

    def sync(self) -> None:
        """Wait until all rows of the log are on the disk."""
        if self.log is not None:
            self.log.sync()

    def step(
        self, metrics: StepMetrics, norm: float, *, seconds: float, waited: float, samples: int
    ) -> None:
        """Report a step.

        Args:
            norm: Norm of its gradient, before clipping.
            waited: Seconds of these spent waiting for data.
        """
        parts, state = self.parts, self.state
        rate = parts.optimizer.param_groups[0]["lr"]
        if math.isfinite(metrics.loss):
            state.last_loss = metrics.loss
            if state.first_loss is None:
                state.first_loss = metrics.loss
        mean = self._mean_loss.add(metrics.loss) if math.isfinite(metrics.loss) else math.nan
        per_second = samples * parts.world.size / seconds
        machine = self._machine_figures()
        self.progress.advance(
            **{
                "loss": metrics.loss,
                "mean loss": mean,
                **{parts.loss.labels[name]: value for name, value in metrics.terms.items()},
                "learning rate": rate,
                "gradient": norm,
                "samples/s": per_second,
                "data wait": f"{waited / seconds:.1%}",
                **format_machine_usage(machine),
            }
        )
        if self.log is not None:
            self.log.add(
                state.step,
                **metrics.row,
                learning_rate=rate,
                gradient_norm=norm,
                seconds=seconds,
                data_seconds=waited,
                samples_per_second=per_second,
                **machine,
            )
        for watch, student, teacher, what in (
            (self._points_watch, metrics.norm_student, metrics.norm_teacher, "norm of raw points"),
            (
                self._confidence_watch,
                metrics.confidence_student,
                metrics.confidence_teacher,
                "confidence",
            ),
        ):
            warning = watch.update(student=student, teacher=teacher, what=what)
            if warning is not None:
                self.progress.note(warning)
        self._expect(seconds)

    def validation(self, metrics: ValidationMetrics) -> None:
        """Report a validation."""
        state = self.state
        state.last_validation = metrics.row
        if self.log is not None:
            self.log.add(state.step, **state.last_validation)
        shape = metrics.distances.get(SHAPE)
        off = "" if shape is None else f"local maps off by {shape:.1%}, "
        self.progress.note(
            f"step {state.step}: held-out loss {metrics.loss:.4g}, {off}distance to the teacher "
            f"{metrics.text} (its unit)"
        )
        for label, one in metrics.by_cache.items():
            self.progress.note(f"  on {label}: held-out loss {one.loss:.4g}, distance {one.text}")

    def _machine_figures(self) -> dict[str, float]:
        now = time.monotonic()
        if now - self._asked >= _STALE:
            self._machine = machine_usage(next(self.parts.student.parameters()).device)
            self._asked = now
        return self._machine

    def _expect(self, seconds: float) -> None:
        self._times.append(seconds)
        if len(self._times) != _TIMED + 1:
            return
        each = sorted(self._times[1:])[_TIMED // 2]
        more = self.parts.steps - self.state.step
        expected = duration(round(more * each))
        self.progress.note(f"expected: about {expected} for {more} more steps, {each:.2g} s each")
