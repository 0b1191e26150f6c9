"""Trials in processes of one thread each; what a finished one gave is a file."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import torch

from distill3r_core.benchmarks.ablation.student_trial import Trial, run_trial
from distill3r_core.errors import DamageError, Distill3rError, FailedError, OutOfMemoryError
from distill3r_core.files import write_text
from distill3r_core.profiling import OutOfRoom, memory_limits

_GLANCE = 1.0  # seconds between two looks at how far they are
_PATIENCE = 10.0  # seconds that a process has to end


@dataclass(frozen=True)
class Job:
    """A trial, and the file that keeps what it gave."""

    trial: Trial
    path: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.trial.variant}, seed {self.trial.seed}"

    def kept(self) -> dict[str, Any] | None:
        """What this very trial gave (`score`, `clipped`, `seconds`), if it is finished.

        Raises:
            DamageError: The file is not what was written.
        """
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamageError(f"{self.path} is damaged", hint="delete it and run again") from error
        return found if found["trial"] == self._trial_as_read() else None

    def keep(self, **facts: Any) -> None:
        """Write the file."""
        text = json.dumps({"trial": self._trial_as_read(), **facts}, indent=2, allow_nan=False)
        write_text(self.path, text + "\n", durable=True)

    def _trial_as_read(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self.trial)))  # tuples are lists


def work_off(
    jobs: Sequence[Job],
    *,
    processes: int,
    on_steps: Callable[[int], None],
    on_done: Callable[[Job], None],
) -> None:
    """Run jobs in their order, so many at once. However this ends, no process is left behind.

    Args:
        jobs: What is to be done.
        processes: How many at once.
        on_steps: Called now and then with the number of steps taken since.
        on_done: Called with each job whose file is there.

    Raises:
        OutOfMemoryError: The memory did not suffice for one of them.
        FailedError: One of them could not be finished.
    """
    context = multiprocessing.get_context("spawn")
    steps: Synchronized[int] = context.Value("q", 0)
    waiting, running = deque(jobs), dict[int, _Worker]()
    told = 0
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                worker = _Worker(waiting.popleft(), steps)
                running[worker.sentinel] = worker
            ended = wait(list(running), timeout=_GLANCE)
            taken = steps.value
            on_steps(taken - told)
            told = taken
            for sentinel in ended:
                assert isinstance(sentinel, int)
                worker = running.pop(sentinel)
                worker.check()
                on_done(worker.job)
    finally:
        for worker in running.values():
            worker.end()


class _Worker:
    """A process at work on a job."""

    def __init__(self, job: Job, steps: "Synchronized[int]") -> None:
        context = multiprocessing.get_context("spawn")
        self.job = job
        self._answer, theirs = context.Pipe(duplex=False)
        self._process: SpawnProcess = context.Process(
            target=_work, args=(job, theirs, steps), daemon=True
        )
        with _without_ctrl_c():
            self._process.start()
        theirs.close()

    @property
    def sentinel(self) -> int:
        """Ready when the process has ended."""
        return self._process.sentinel

    def check(self) -> None:
        """After its end: raise what went wrong."""
        self._process.join()
        try:
            error = self._answer.recv()
        except EOFError:
            error = self._lost()
        self._answer.close()
        if error is not None:
            raise error

    def _lost(self) -> Distill3rError:
        status = self._process.exitcode
        if status == -signal.SIGKILL:
            return OutOfMemoryError(
                f"{self.job.name}: the system ended its process: no memory left"
            )
        return FailedError(f"{self.job.name}: its process ended with status {status}")

    def end(self) -> None:
        """End it, whatever it is doing: its file is there in whole or not at all."""
        self._process.terminate()
        self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join()
        self._answer.close()


def _work(job: Job, answer: Connection, steps: "Synchronized[int]") -> None:
    """What a process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    started = time.perf_counter()

    def count() -> None:
        with steps.get_lock():
            steps.value += 1

    error: Distill3rError | None = None
    try:
        with memory_limits():
            outcome = run_trial(job.trial, count)
        job.keep(**asdict(outcome), seconds=time.perf_counter() - started)
    except OutOfRoom as full:
        error = OutOfMemoryError(f"{job.name}: {full}")
    except Distill3rError as found:
        error = type(found)(f"{job.name}: {found.message}", hint=found.hint)
    answer.send(error)


def _end_with_parent() -> None:
    """Nobody waits for what a process computes whose parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes started here never hear Ctrl-C, which a terminal sends to all: the parent does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
