"""A process of its own for every model and number of views, asked through a pipe."""

import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from distill3r_core.errors import FailedError, OutOfMemoryError

WORKER = "distill3r_core.stages.benchmark.forward_worker"
KILLED = -9  # what the system does to a process when memory runs out
PATIENCE = 10.0  # seconds that a process has to end after it was told to
LOG_LINES = 12


class TooSlowError(FailedError):
    """A process did not answer in time."""


class WorkerProcess:
    """A fresh process that answers one JSON object per line.

    Args:
        module: What it runs.

    A context manager: the process ends with the block, whatever it is doing.
    """

    def __init__(self, module: str = WORKER) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._answers, selectors.EVENT_READ)

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, question: Mapping[str, Any], *, seconds: float | None = None) -> dict[str, Any]:
        """Send one object and wait for the answer.

        Args:
            question: Plain data.
            seconds: How long to wait; None: as long as it takes.

        Raises:
            TooSlowError: No answer in time. The process is of no more use.
            OutOfMemoryError: It ran out of memory, by its own word or by the system's hand.
            FailedError: It ended otherwise; with the end of what it said.
        """
        self._send(question)
        return self._receive(seconds)

    def _send(self, question: Mapping[str, Any]) -> None:
        try:
            self._requests.write(json.dumps(question).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            self._raise_lost()

    def _receive(self, seconds: float | None) -> dict[str, Any]:
        if not self._ready.select(seconds):
            raise TooSlowError(f"no answer within {seconds:.0f} s")
        line = self._answers.readline()
        if not line:
            self._raise_lost()
        answer = json.loads(line)
        if "out_of_memory" in answer:
            raise OutOfMemoryError(answer["out_of_memory"])
        return answer

    def _raise_lost(self) -> None:
        status = self._process.wait()
        if status == KILLED:
            raise OutOfMemoryError("the system ended the process: no memory left")
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        raise FailedError(
            f"a benchmark process ended with status {status}:\n" + "\n".join(said[-LOG_LINES:])
        )

    def close(self) -> None:
        """End the process: it is asked first, then told."""
        self._ready.close()
        with suppress(BrokenPipeError):
            self._requests.close()  # the end of its input is the end of its work
        self._process.terminate()
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        self._process.kill()
        self._process.wait()
        self._answers.close()
        self._log.close()
