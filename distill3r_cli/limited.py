"""Under a limit of the address space, say so where a library ends the process.

C++ libraries end the process (`std::bad_alloc`, abort) where memory is refused while they are
loaded or start threads; no handler of Python runs then. So the work is done by a child, and this
process says what has ended it.
"""

import os
import resource
import signal
import sys
from types import FrameType
from typing import NoReturn

from distill3r_cli import console, exits
from distill3r_core.errors import SystemLimitError

_ENDED_BY_LIBRARY = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGTRAP)


def fork_under_limit(arguments: list[str]) -> None:
    """Go on in a child where the address space is limited; elsewhere do nothing.

    The parent never returns: it ends like the child.

    Args:
        arguments: The command line, which says how errors are shown.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    try:
        child = os.fork()
    except OSError:
        return
    if child:
        _wait(child, limit, arguments)


def _wait(child: int, limit: int, arguments: list[str]) -> NoReturn:
    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    ended_by = signal.Signals(os.WTERMSIG(status))
    if ended_by not in _ENDED_BY_LIBRARY:
        signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    console.expect(arguments)
    error = SystemLimitError(
        f"a library ended the process ({ended_by.name}): the limit of address space is "
        f"{limit // 1024} kB",
        hint="raise the limit (`ulimit -v unlimited`), or use fewer threads: OMP_NUM_THREADS=1",
    )
    console.show_error(error, exits.RESOURCE)
    sys.stdout.flush()
    os._exit(exits.RESOURCE)
