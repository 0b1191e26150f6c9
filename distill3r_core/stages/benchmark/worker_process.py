"""Worker processes that answer requests, one JSON object per line, through pipes."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from distill3r_core import errors, plugins
from distill3r_core.errors import Distill3rError, FailedError, OutOfMemoryError
from distill3r_core.extend import load_plugins
from distill3r_core.profiling import AllocationError, memory_limits

WORKER = "distill3r_core.stages.benchmark.forward_worker"
KILLED = -9  # by the system, when memory runs out
PATIENCE = 10.0  # seconds between terminating a process and killing it
LOG_LINES = 12

Answer = dict[str, Any]


class TooSlowError(FailedError):
    """A process did not answer in time."""


def serve(handle: Callable[[Answer, Callable[[Answer], None]], Answer]) -> None:
    """Answer requests on stdin until it is closed; what libraries print goes to stderr.

    The plugins of the parent process, which are this one's arguments, are loaded first.

    Args:
        handle: Takes a request, and a function that sends an answer ahead of the one it returns.
    """
    pipe = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    load_plugins(sys.argv[1:])
    with os.fdopen(pipe, "w", encoding="utf-8") as answers:

        def send(answer: Answer) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        for line in sys.stdin:
            try:
                with memory_limits():
                    answer = handle(json.loads(line), send)
            except AllocationError as error:
                answer = {"error": ["OutOfMemoryError", str(error).splitlines()[0], None]}
            except Distill3rError as error:
                answer = {"error": [type(error).__name__, error.message, error.hint]}
            send(answer)


class WorkerProcess:
    """A fresh process whose module calls `serve`.

    A context manager: the process ends with the block, even in the middle of a request.
    """

    def __init__(self, module: str = WORKER) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *plugins.loaded_paths()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,  # no answer waits in a buffer while the pipe seems empty
            start_new_session=True,  # Ctrl-C, which a terminal sends to all, is the parent's
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when an answer is there or the process has ended."""
        return self._answers.fileno()

    def ask(self, request: Mapping[str, Any], *, seconds: float | None = None) -> Answer:
        """Send a request and wait for an answer; raises what `send` and `receive` do."""
        self.send(request)
        return self.receive(seconds)

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request.

        Raises:
            OutOfMemoryError: The system killed the process.
            FailedError: The process ended otherwise; with the end of its output.
        """
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            self._raise_ended()

    def receive(self, seconds: float | None = None) -> Answer:
        """Wait for an answer.

        Args:
            seconds: Longest wait; None: no limit.

        Raises:
            TooSlowError: No answer in time. The process can answer no further request.
            Distill3rError: The error that the worker answered with.
            OutOfMemoryError: The system killed the process.
            FailedError: The process ended otherwise; with the end of its output.
        """
        if not ready([self], seconds):
            raise TooSlowError(f"no answer within {seconds:.0f} s")
        line = self._answers.readline()
        if not line:
            self._raise_ended()
        answer = json.loads(line)
        if "error" in answer:
            kind, message, hint = answer["error"]
            raise getattr(errors, kind, FailedError)(message, hint=hint)
        return answer

    def _raise_ended(self) -> None:
        status = self._process.wait()
        if status == KILLED:
            raise OutOfMemoryError("the system ended the process: no memory left")
        self._log.seek(0)
        log = self._log.read().decode(errors="replace").strip().splitlines()
        raise FailedError(
            f"a benchmark process ended with status {status}:\n" + "\n".join(log[-LOG_LINES:])
        )

    def close(self) -> None:
        """End the process."""
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


def ready(processes: Iterable[WorkerProcess], seconds: float | None = None) -> list[WorkerProcess]:
    """Wait until one of the processes has answered or ended; all that have, or none in time."""
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process, selectors.EVENT_READ, process)
        return [key.data for key, _ in selector.select(seconds)]
