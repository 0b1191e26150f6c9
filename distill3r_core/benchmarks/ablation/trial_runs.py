"""Runs trials in worker processes; the outcome of each finished one is kept in a file."""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core.benchmarks.ablation import trial_worker
from distill3r_core.benchmarks.ablation.student_trial import Trial
from distill3r_core.errors import DamageError, Distill3rError
from distill3r_core.files import read_own, write_text
from distill3r_core.stages.benchmark.worker_process import WorkerProcess, ready


@dataclass(frozen=True)
class TrialRun:
    """A trial and the file of its outcome."""

    trial: Trial
    path: Path

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.trial.variant}, seed {self.trial.seed}"

    def outcome(self) -> dict[str, Any] | None:
        """`score`, `clipped` and `seconds` of this very trial, if it is finished.

        Raises:
            DamageError: The file is not what was written.
        """
        try:
            stored = json.loads(read_own(self.path))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamageError(f"{self.path} is damaged", hint="delete it and run again") from error
        return stored if stored["trial"] == self.trial.as_plain() else None

    def write(self, outcome: dict[str, Any]) -> None:
        """Write the file."""
        stored = {"trial": self.trial.as_plain(), **outcome}
        write_text(self.path, json.dumps(stored, indent=2, allow_nan=False) + "\n", durable=True)


def run_trials(
    runs: Sequence[TrialRun],
    *,
    processes: int,
    on_steps: Callable[[int], None],
    on_finished: Callable[[TrialRun], None],
) -> None:
    """Run trials in order, several at once. No process outlives this call.

    Args:
        on_steps: Receives the number of optimizer steps since its last call.
        on_finished: Receives each trial whose file has been written.

    Raises:
        Distill3rError: A trial failed; the message begins with its name.
    """
    waiting, running = deque(runs), dict[WorkerProcess, TrialRun]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                run = waiting.popleft()
                process = WorkerProcess(trial_worker.__name__)
                running[process] = run
                process.send(run.trial.as_plain())
            for process in ready(running):
                run = running[process]
                try:
                    answer = process.receive()
                except Distill3rError as error:
                    raise type(error)(f"{run.name}: {error.message}", hint=error.hint) from error
                on_steps(answer["steps"])
                if "outcome" in answer:
                    run.write(answer["outcome"])
                    on_finished(run)
                    del running[process]
                    process.close()
    finally:
        for process in running:
            process.close()
