"""Run forwards in fresh processes, the models of a row in turns, within a budget of seconds."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.report import Progress
from distill3r_core.stages.benchmark.budget import Cost, affordable, planned_runs
from distill3r_core.stages.benchmark.entries import Contender
from distill3r_core.stages.benchmark.forwards import COMPILED
from distill3r_core.stages.benchmark.worker_process import TooSlowError, WorkerProcess

MEASURED, NO_MEMORY, SKIPPED = "measured", "out of memory", "skipped, estimated"
SHORT = 5.0  # seconds; a first forward under this is repeated before it is trusted


@dataclass(frozen=True)
class Calibration:
    """What a model does with one view, from which longer rows are judged.

    Args:
        start: Seconds until its process was ready.
        forward: Seconds of a forward of one view; infinite where it did not end in time.
        flop_rate: Of the device on a large matrix product, FLOP/s.
        byte_rate: Of the device on a large copy, bytes/s.
        facts: About the process and the device.
        out_of_memory: Not even one view has room.
    """

    start: float
    forward: float
    flop_rate: float | None = None
    byte_rate: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    out_of_memory: bool = False


@dataclass
class Trial:
    """What was seen of one model at one number of views.

    Args:
        contender: The model.
        views: How many.
        status: MEASURED, NO_MEMORY or SKIPPED.
        estimate: Seconds that a forward was expected to take.
        warmups: Runs before the timed ones.
        runs: The timed runs, as the process answered.
    """

    contender: Contender
    views: int
    status: str = SKIPPED
    estimate: float = math.inf
    warmups: int = 0
    runs: list[dict[str, Any]] = field(default_factory=list)


class Bench:
    """A benchmark that has begun.

    Args:
        deadline: Of `time.monotonic()`; infinite: none.
        warmups: Wanted before the timed runs.
        runs: Wanted, timed.
        seed: Of pictures.
        memory_bytes: The most that a process may take; None: all there is.
        progress: Reports every forward.
    """

    def __init__(
        self,
        *,
        deadline: float,
        warmups: int,
        runs: int,
        seed: int,
        memory_bytes: int | None,
        progress: Progress,
    ) -> None:
        self.deadline, self.warmups, self.runs = deadline, warmups, runs
        self.seed, self.memory_bytes, self.progress = seed, memory_bytes, progress
        # How much longer forwards took than was judged from one view, by model.
        self._surprise: dict[str, float] = {}

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return max(0.0, self.deadline - time.monotonic())

    def calibrate(self, contender: Contender) -> Calibration:
        """Run one view."""
        begin = time.monotonic()
        with WorkerProcess() as process:
            try:
                facts = process.ask(self._question(contender, 1), seconds=self._patience)
                start = time.monotonic() - begin
                rates = process.ask({"do": "rates"}, seconds=self._patience)
                forward = process.ask({"do": "run"}, seconds=self._patience)["seconds"]
                # A compiled model's first forward is its compiler's.
                if forward < SHORT or contender.name == COMPILED:
                    forward = process.ask({"do": "run"}, seconds=self._patience)["seconds"]
            except (TooSlowError, OutOfMemoryError) as error:
                crowded = isinstance(error, OutOfMemoryError)
                return Calibration(time.monotonic() - begin, math.inf, out_of_memory=crowded)
        self.progress.advance(model=contender.name, views="1", seconds=forward)
        return Calibration(start, forward, facts=facts, **rates)

    def measure(
        self, contenders: Sequence[Contender], views: Sequence[int], known: Sequence[Calibration]
    ) -> list[Trial]:
        """Every model at every number of views, the small numbers first.

        Args:
            contenders: The models.
            views: How many, ascending.
            known: Of each model.
        """
        trials: list[Trial] = []
        for place, count in enumerate(views):
            pairs = list(zip(contenders, known, strict=True))
            costs = [self._cost(c, k, later) for later in views[place:] for c, k in pairs]
            fits = affordable(costs, self.left)
            row = [
                Trial(
                    contender,
                    count,
                    status=NO_MEMORY if calibration.out_of_memory else SKIPPED,
                    estimate=cost.forward,
                )
                for (contender, calibration), cost in zip(pairs, costs, strict=False)
            ]
            runnable = [trial for trial, fit in zip(row, fits, strict=False) if fit]
            if runnable:
                least = math.fsum(c.least for c, fit in zip(costs, fits, strict=True) if fit)
                rows_ahead = math.ceil(sum(fits) / len(contenders))
                self._run_row(runnable, (self.left - least) / rows_ahead)
            trials += row
        return trials

    def _cost(self, contender: Contender, known: Calibration, views: int) -> Cost:
        growth = contender.flop(views) / contender.flop(1)
        surprise = self._surprise.get(contender.name, 1.0)
        return Cost(known.start, known.forward * growth * surprise)

    def _run_row(self, row: Sequence[Trial], spare: float) -> None:
        """Run the models of a row in turns; one that has no room beside others runs alone."""
        begin = time.monotonic()
        crowded = self._run_together(row, spare)
        if len(row) > 1 and crowded:
            spare = max(0.0, spare - (time.monotonic() - begin)) / len(crowded)
            for trial in crowded:
                self._run_together([trial], spare)

    def _run_together(self, row: Sequence[Trial], spare: float) -> list[Trial]:
        """Run models in turns; gives those that ran out of memory.

        Args:
            row: What to run; filled in.
            spare: Seconds beyond one run to warm up and one to time.
        """
        round_seconds = math.fsum(trial.estimate for trial in row)
        warmups, runs = planned_runs(spare, round_seconds, warmups=self.warmups, runs=self.runs)
        with ExitStack() as stack:
            live = [(trial, stack.enter_context(WorkerProcess())) for trial in row]
            live = [
                (trial, process)
                for trial, process in live
                if self._asked(trial, process, self._question(trial.contender, trial.views))
            ]
            for turn in range(warmups + runs):
                for trial, process in list(live):
                    answer = self._asked(trial, process, {"do": "run"})
                    if answer is None:
                        live.remove((trial, process))
                        process.close()
                    elif turn < warmups:
                        trial.warmups += 1
                    else:
                        trial.runs.append(answer)
                        trial.status = MEASURED
        for trial in row:
            self._learn(trial)
        return [trial for trial in row if trial.status == NO_MEMORY]

    def _asked(
        self, trial: Trial, process: WorkerProcess, question: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer; None, and the trial's status, where there was no time or no memory."""
        try:
            answer = process.ask(question, seconds=self._patience)
        except TooSlowError:
            return None
        except OutOfMemoryError:
            trial.status, trial.runs = NO_MEMORY, []
            return None
        if "seconds" in answer:
            self.progress.advance(
                model=trial.contender.name, views=str(trial.views), seconds=answer["seconds"]
            )
        return answer

    def _learn(self, trial: Trial) -> None:
        """Judge later rows by what this one took."""
        if trial.runs and math.isfinite(trial.estimate):
            took = min(run["seconds"] for run in trial.runs)
            before = self._surprise.get(trial.contender.name, 1.0)
            self._surprise[trial.contender.name] = before * took / trial.estimate

    def _question(self, contender: Contender, views: int) -> dict[str, Any]:
        return {
            "subject": contender.subject.as_plain(),
            "views": views,
            "size": contender.size,
            "seed": self.seed,
            "memory_bytes": self.memory_bytes,
        }

    @property
    def _patience(self) -> float | None:
        return None if math.isinf(self.deadline) else self.left
