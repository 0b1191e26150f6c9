"""Run readers in a process of their own, with little time and memory for each case."""

import json
import os
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from distill3r_core.errors import Distill3rError

SECONDS = 2.0  # of the CPU, for a case
ROOM = 200 << 20  # bytes more than before, for a case
LONGEST_MESSAGE = 2000  # characters; files are quoted cut


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `read`, `refused` (with a documented error), or a fault."""

    kind: str
    detail: str = ""

    @property
    def documented(self) -> bool:
        """Whether a user would see a result or a message."""
        return self.kind in ("read", "refused")


class BoundedReader:
    """A forked process that reads one folder again and again, until a case ends it.

    Args:
        read: Reads the folder; the files in it are changed between its calls.
    """

    def __init__(self, read: Callable[[Path], object], folder: Path) -> None:
        self._read, self._folder, self._child = read, folder, 0

    def __call__(self) -> Outcome:
        """Read the folder as it is now."""
        if not self._child:
            self._start()
        os.write(self._orders, b"\n")
        answer = self._answers.readline()
        if answer:
            return Outcome(*json.loads(answer))
        _, status = os.waitpid(self._child, 0)
        self._forget()
        if os.WIFSIGNALED(status):
            return Outcome("killed", signal.Signals(os.WTERMSIG(status)).name)
        return Outcome("ended", f"status {os.WEXITSTATUS(status)}")

    def close(self) -> None:
        """End the process."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._forget()

    def _forget(self) -> None:
        os.close(self._orders)
        self._answers.close()
        self._child = 0

    def _start(self) -> None:
        orders, self._orders = os.pipe()
        answers, answer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._orders), os.close(answers)
            self._serve(orders, answer)
        os.close(orders), os.close(answer)
        self._answers = os.fdopen(answers, "rb")

    def _serve(self, orders: int, answer: int) -> NoReturn:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            warnings.simplefilter("ignore")
            while os.read(orders, 1):
                found = json.dumps(self._case()) + "\n"
                os.write(answer, found.encode())
        finally:
            os._exit(3)

    def _case(self) -> tuple[str, str]:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        begun = time.process_time()
        limit = int(begun + SECONDS) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        try:
            self._read(self._folder)
            error = None
        except BaseException as raised:  # noqa: BLE001 what is looked for
            error = raised
        spent = time.process_time() - begun
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        kind, detail = _judged(error)
        if spent > SECONDS:
            kind, detail = "slow", f"{spent:.1f} s of the CPU"
        return kind, detail[-3000:]


def _judged(error: BaseException | None) -> tuple[str, str]:
    """What a reader's end is called, and what is known of it."""
    if error is None:
        return "read", ""
    if isinstance(error, Distill3rError):
        kind = "refused" if len(error.message) <= LONGEST_MESSAGE else "quoted at length"
        return kind, error.message
    kind = "memory" if isinstance(error, MemoryError) else "fault"
    return kind, "".join(traceback.format_exception(error, limit=-6))
