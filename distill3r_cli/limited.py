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
_DONE, _OUT_OF_MEMORY = b"1", b"m"  # reports
_STUCK_AFTER = 10.0  # seconds in which a process had not one page left, and spun
_KILLED_AFTER = 5.0  # more such seconds, after it has been asked to end
_SPINS = 0.8  # share of those seconds in which it ran, or waited for a processor
_LOOK_EVERY = (0.05, 0.5)  # seconds: at first, and of what has run for a minute


class Reports:
    """What a child tells its parent.

    Args:
        to_parent: End of a pipe to write to.
    """

    def __init__(self, to_parent: int) -> None:
        self._to_parent = to_parent

    def done(self) -> None:
        """The command has ended, and what there is to say of that is said or will be."""
        self._send(_DONE)

    def out_of_memory(self) -> None:
        """Python has run out of memory, and the parent is to say so."""
        self._send(_OUT_OF_MEMORY)

    def _send(self, report: bytes) -> None:
        with suppress(OSError):  # the parent is gone
            os.write(self._to_parent, report)


def fork_under_limit(arguments: list[str]) -> Reports | None:
    """Go on in a child where the address space is limited; elsewhere do nothing.

    The parent never returns: it ends like the child.

    Args:
        arguments: The command line, which says how errors are shown.

    Returns:
        By which the child is to say how the command ended; None where there is no child.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    read, write = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        return None
    if child:
        os.close(write)
        _wait(child, read, limit, arguments)
    os.close(read)
    return Reports(write)


def _wait(child: int, reports: int, limit: int, arguments: list[str]) -> NoReturn:
    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it has ended in this moment
            os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    status = _status_of(child, limit)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if status is None:
        what = "there is no memory left to go on with"
    elif os.WIFSIGNALED(status):
        ended_by = signal.Signals(os.WTERMSIG(status))
        if ended_by not in _ENDED_BY_LIBRARY:
            signal.signal(ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), ended_by)
        what = f"a library ended the process ({ended_by.name})"
    else:
        exited, report = os.WEXITSTATUS(status), _report(reports)
        if exited not in _ENDED_BY_EXIT or report == _DONE:
            os._exit(exited)
        what = f"a library ended the process (exit status {exited})"
        if report == _OUT_OF_MEMORY:
            what = "Python has run out of memory"
    console.expect(arguments)
    error = SystemLimitError(
        f"{what}: the limit of address space is {limit // 1024} kB",
        hint="raise the limit (`ulimit -v unlimited`), or use fewer threads: OMP_NUM_THREADS=1",
    )
    console.show_error(error, exits.RESOURCE)
    sys.stdout.flush()
    os._exit(exits.RESOURCE)


def _status_of(child: int, limit: int) -> int | None:
    """How the child ended; None: it spun without a page of memory left, and was ended for it.

    It is asked to end first, as it may have work to save and children of its own, and is killed if
    it spins on.
    """
    begun = since = time.monotonic()
    busy, asked = _busy_seconds(child), False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return None if asked else status
        now, patience = time.monotonic(), _KILLED_AFTER if asked else _STUCK_AFTER
        is_full = _address_space(child) + resource.getpagesize() > limit
        if not is_full or now - since > patience:
            spun = _busy_seconds(child) - busy
            if is_full and spun >= _SPINS * (now - since):
                os.kill(child, signal.SIGKILL if asked else signal.SIGTERM)
                asked = True
            since, busy = now, _busy_seconds(child)
        first, later = _LOOK_EVERY
        time.sleep(min(max(first, (now - begun) / 120), later))


def _busy_seconds(process: int) -> float:
    """Seconds for which a process ran, or its first thread waited for a processor to run on."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    ran = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")  # in user mode, in the kernel
    try:
        waited = int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # not every kernel counts it
        waited = 0.0
    return ran + waited


def _address_space(process: int) -> int:
    """Bytes of address space that a process holds; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[0]
    except (OSError, IndexError):
        return 0
    return int(pages) * resource.getpagesize()


def _report(reports: int) -> bytes:
    """What the child has reported; nothing where it had no time to."""
    os.set_blocking(reports, False)  # a process of the child may still hold the other end
    try:
        return os.read(reports, 1)
    except BlockingIOError:
        return b""
