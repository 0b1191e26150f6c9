"""Run forwards in fresh processes, the models of a row in turns, within a budget of seconds."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.report import Progress
from distill3r_core.stages.benchmark.budget import RunSeconds, affordable, planned_runs
from distill3r_core.stages.benchmark.models import COMPILED, BenchModel
from distill3r_core.stages.benchmark.worker_process import TooSlowError, WorkerProcess

MEASURED, NO_MEMORY, SKIPPED = "measured", "out of memory", "skipped, estimated"
SHORT = 5.0  # seconds; a first forward under this is repeated before it is trusted


@dataclass(frozen=True)
class SpeedCalibration:
    """What one view takes, from which the time of more views is estimated."""

    start: float  # seconds until its process was ready
    forward: float  # seconds of a forward of one view; infinite where it did not end in time
    flop_rate: float | None = None  # FLOP/s of the device on a large matrix product
    byte_rate: float | None = None  # bytes/s of the device on a large copy
    facts: dict[str, Any] = field(default_factory=dict)
    out_of_memory: bool = False


@dataclass
class BenchEntry:
    """Measurement of one model at one number of views."""

    model: BenchModel
    views: int
    status: str = SKIPPED  # MEASURED, NO_MEMORY or SKIPPED
    estimate: float = math.inf  # expected seconds of a forward
    warmups: int = 0  # runs before the timed ones
    runs: list[dict[str, Any]] = field(default_factory=list)


class Bench:
    """Measures models within a budget of time.

    Args:
        deadline: End of the budget on the clock of `time.monotonic`; infinite: none.
        warmups: Wanted number of runs before the timed ones.
        seed: Seed of the random images.
        memory_bytes: Most memory that a process may take; None: all there is.
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
        # How much longer forwards took than estimated from one view, by model.
        self._correction: dict[str, float] = {}

    @property
    def left(self) -> float:
        """Seconds left of the budget."""
        return max(0.0, self.deadline - time.monotonic())

    def calibrate(self, model: BenchModel) -> SpeedCalibration:
        """Time one view, and the rates of the device."""
        begin = time.monotonic()
        with WorkerProcess() as process:
            try:
                facts = process.ask(self._request(model, 1), seconds=self._timeout)
                start = time.monotonic() - begin
                rates = process.ask({"do": "rates"}, seconds=self._timeout)
                forward = process.ask({"do": "run"}, seconds=self._timeout)["seconds"]
                # The first forward of a compiled model compiles it.
                if forward < SHORT or model.name == COMPILED:
                    forward = process.ask({"do": "run"}, seconds=self._timeout)["seconds"]
            except (TooSlowError, OutOfMemoryError) as error:
                out_of_memory = isinstance(error, OutOfMemoryError)
                return SpeedCalibration(
                    time.monotonic() - begin, math.inf, out_of_memory=out_of_memory
                )
        self.progress.advance(model=model.name, views="1", seconds=forward)
        return SpeedCalibration(start, forward, facts=facts, **rates)

    def measure(
        self, models: Sequence[BenchModel], views: Sequence[int], known: Sequence[SpeedCalibration]
    ) -> list[BenchEntry]:
        """Measure every model at every number of views, in ascending order.

        Args:
            models: The models; those of one row run in turns.
        """
        entries: list[BenchEntry] = []
        for index, count in enumerate(views):
            pairs = list(zip(models, known, strict=True))
            costs = [self._cost(c, k, later) for later in views[index:] for c, k in pairs]
            fits = affordable(costs, self.left)
            row = [
                BenchEntry(
                    model,
                    count,
                    status=NO_MEMORY if calibration.out_of_memory else SKIPPED,
                    estimate=cost.forward,
                )
                for (model, calibration), cost in zip(pairs, costs, strict=False)
            ]
            runnable = [entry for entry, fit in zip(row, fits, strict=False) if fit]
            if runnable:
                least = math.fsum(c.least for c, fit in zip(costs, fits, strict=True) if fit)
                rows_ahead = math.ceil(sum(fits) / len(models))
                self._run_row(runnable, (self.left - least) / rows_ahead)
            entries += row
        return entries

    def _cost(self, model: BenchModel, known: SpeedCalibration, views: int) -> RunSeconds:
        one, all_views = model.flop(1), model.flop(views)
        growth = views if one is None or all_views is None else all_views / one
        correction = self._correction.get(model.name, 1.0)
        return RunSeconds(known.start, known.forward * growth * correction)

    def _run_row(self, row: Sequence[BenchEntry], spare: float) -> None:
        """Run the models of a row in turns; one that has no memory beside others runs alone."""
        begin = time.monotonic()
        crowded = self._run_together(row, spare)
        if len(row) > 1 and crowded:
            spare = max(0.0, spare - (time.monotonic() - begin)) / len(crowded)
            for entry in crowded:
                self._run_together([entry], spare)

    def _run_together(self, row: Sequence[BenchEntry], spare: float) -> list[BenchEntry]:
        """Run models in turns; returns those that ran out of memory.

        Args:
            spare: Seconds beyond one warm-up and one timed run.
        """
        round_seconds = math.fsum(entry.estimate for entry in row)
        warmups, runs = planned_runs(spare, round_seconds, warmups=self.warmups, runs=self.runs)
        with ExitStack() as stack:
            live = [(entry, stack.enter_context(WorkerProcess())) for entry in row]
            live = [
                (entry, process)
                for entry, process in live
                if self._ask(entry, process, self._request(entry.model, entry.views))
            ]
            for turn in range(warmups + runs):
                for entry, process in list(live):
                    answer = self._ask(entry, process, {"do": "run"})
                    if answer is None:
                        live.remove((entry, process))
                        process.close()
                    elif turn < warmups:
                        entry.warmups += 1
                    else:
                        entry.runs.append(answer)
                        entry.status = MEASURED
        for entry in row:
            if entry.runs and math.isfinite(entry.estimate):
                # Later rows are estimated by what this one took.
                took = min(run["seconds"] for run in entry.runs)
                before = self._correction.get(entry.model.name, 1.0)
                self._correction[entry.model.name] = before * took / entry.estimate
        return [entry for entry in row if entry.status == NO_MEMORY]

    def _ask(
        self, entry: BenchEntry, process: WorkerProcess, request: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The answer; None, with the entry's status set, where time or memory ran out."""
        try:
            answer = process.ask(request, seconds=self._timeout)
        except TooSlowError:
            return None
        except OutOfMemoryError:
            entry.status, entry.runs = NO_MEMORY, []
            return None
        if "seconds" in answer:
            self.progress.advance(
                model=entry.model.name, views=str(entry.views), seconds=answer["seconds"]
            )
        return answer

    def _request(self, model: BenchModel, views: int) -> dict[str, Any]:
        return {
            "model": model.as_plain(),
            "views": views,
            "seed": self.seed,
            "memory_bytes": self.memory_bytes,
        }

    @property
    def _timeout(self) -> float | None:
        return None if math.isinf(self.deadline) else self.left
