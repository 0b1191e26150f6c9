"""Under a limit of the address space, say so where it ends the process.

Libraries end the process where memory is refused while they are loaded or start threads: those of
C++ by a signal (`std::bad_alloc`, abort), OpenBLAS by `exit(1)`; no handler of Python runs then.
And Python itself may have no memory left to report an error, or not even enough to unwind one: then
CPython tries the same allocation for ever. So the work is done by a child, and this process says
what has ended it, or ends it.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from distill3r_cli import console, exits
from distill3r_core.errors import SystemLimitError

_ENDED_BY_LIBRARY = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP)
# Of a process that ends itself without a word: OpenBLAS, and Python after a `MemoryError` (120: its
# streams could not be flushed).
_ENDED_BY_EXIT = (1, 120)
_STUCK_AFTER = 10.0  # seconds in which a process had not one page left
_LOOK_EVERY = 0.05  # seconds


def fork_under_limit(arguments: list[str]) -> Callable[[], None] | None:
    """Go on in a child where the address space is limited; elsewhere do nothing.

    The parent never returns: it ends like the child.

    Args:
        arguments: The command line, which says how errors are shown.

    Returns:
        What the child is to call once it has reported how the command went; None where there is
        no child.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    read, write = os.pipe()
    try:
        child = os.fork()
    except OSError:
        return None
    if child:
        os.close(write)
        _wait(child, read, limit, arguments)
    os.close(read)

    def reported() -> None:
        with suppress(OSError):  # the parent is gone
            os.write(write, b"1")

    return reported


def _wait(child: int, reports: int, limit: int, arguments: list[str]) -> NoReturn:
    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    status = _status_of(child, limit)
    if status is None:
        what = "there is no memory left to go on with"
    elif os.WIFSIGNALED(status):
        ended_by = signal.Signals(os.WTERMSIG(status))
        if ended_by not in _ENDED_BY_LIBRARY:
            signal.signal(ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), ended_by)
        what = f"a library ended the process ({ended_by.name})"
    else:
        exited = os.WEXITSTATUS(status)
        if exited not in _ENDED_BY_EXIT or _has_reported(reports):
            os._exit(exited)
        what = "there is too little memory to load the program"
    console.expect(arguments)
    error = SystemLimitError(
        f"{what}: the limit of address space is {limit // 1024} kB",
        hint="raise the limit (`ulimit -v unlimited`), or use fewer threads: OMP_NUM_THREADS=1",
    )
    console.show_error(error, exits.RESOURCE)
    sys.stdout.flush()
    os._exit(exits.RESOURCE)


def _status_of(child: int, limit: int) -> int | None:
    """How the child ended; None: it had not a page of memory left for seconds, and was killed."""
    full_since: float | None = None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        now = time.monotonic()
        if _address_space(child) + resource.getpagesize() <= limit:
            full_since = None
        elif full_since is None:
            full_since = now
        elif now - full_since > _STUCK_AFTER:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(_LOOK_EVERY)


def _address_space(process: int) -> int:
    """Bytes of address space that a process holds; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[0]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


def _has_reported(reports: int) -> bool:
    os.set_blocking(reports, False)  # a process of the child may still hold the other end
    try:
        return os.read(reports, 1) != b""
    except BlockingIOError:
        return False
