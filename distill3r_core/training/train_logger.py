"""What a run says while it goes on: figures of every step, warnings, the time it will take."""

import math
import time
from dataclasses import dataclass, field

from distill3r_core.report import Progress, duration
from distill3r_core.training.faults import NormWatch
from distill3r_core.training.machine_usage import format_machine_usage, machine_usage
from distill3r_core.training.metrics_log import MetricsLog, MovingMean
from distill3r_core.training.run_state import TrainComponents, TrainState
from distill3r_core.training.step import FIGURES, Figures
from distill3r_core.training.validation import Agreement

_STALE = 1.0  # seconds after which the machine is asked again: asking a GPU takes its time
_TIMED = 3  # steps that the expected time is told from, after the first, which is warm-up


@dataclass
class TrainLogger:
    """Tells a person, and `metrics.jsonl`, about steps and looks."""

    parts: TrainComponents
    state: TrainState
    log: MetricsLog | None  # of the leading process
    progress: Progress
    _mean_loss: MovingMean = field(default_factory=MovingMean)
    _times: list[float] = field(default_factory=list)
    _machine: dict[str, float] = field(default_factory=dict)
    _asked: float = -math.inf

    def __post_init__(self) -> None:
        growth = self.parts.settings.faults.runaway
        self._points_watch, self._confidence_watch = NormWatch(growth), NormWatch(growth)

    def step(
        self, figures: Figures, norm: float, *, seconds: float, waited: float, samples: int
    ) -> None:
        """A step is done.

        Args:
            figures: Of the step, over all processes.
            norm: Of its gradient, before it was clipped.
            seconds: That it took.
            waited: Seconds of these that went into waiting for data.
            samples: Of this process.
        """
        parts, state = self.parts, self.state
        rate = parts.optimizer.param_groups[0]["lr"]
        if math.isfinite(figures.loss):
            state.last_loss = figures.loss
            if state.first_loss is None:
                state.first_loss = figures.loss
        mean = self._mean_loss.add(figures.loss) if math.isfinite(figures.loss) else math.nan
        per_second = samples * parts.world.size / seconds
        machine = self._machine_figures()
        self.progress.advance(
            **{
                "loss": figures.loss,
                "mean loss": mean,
                "global": figures.loss_global,
                "local": figures.loss_local,
                "confidence": figures.loss_confidence,
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
                **{name: getattr(figures, name) for name in FIGURES},
                learning_rate=rate,
                gradient_norm=norm,
                seconds=seconds,
                data_seconds=waited,
                samples_per_second=per_second,
                **machine,
            )
        for watch, student, teacher, what in (
            (self._points_watch, figures.norm_student, figures.norm_teacher, "norm of raw points"),
            (
                self._confidence_watch,
                figures.confidence_student,
                figures.confidence_teacher,
                "confidence",
            ),
        ):
            warning = watch.look(student=student, teacher=teacher, what=what)
            if warning is not None:
                self.progress.note(warning)
        self._expect(seconds)

    def look(self, found: Agreement) -> None:
        """A validation is done."""
        state = self.state
        state.last_validation = {
            "validation_loss": found.loss,
            "validation_points_local": found.points_local,
            "validation_points_global": found.points_global,
        }
        if self.log is not None:
            self.log.add(state.step, **state.last_validation)
        self.progress.note(
            f"step {state.step}: held-out loss {found.loss:.4g}, distance to the teacher "
            f"{found.points_local:.4g} local, {found.points_global:.4g} global (its unit)"
        )

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
