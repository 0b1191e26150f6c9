"""Refusals of the system (memory, open files, locks) as errors that name the limit."""

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill3r_core.errors import SystemLimitError

_FILES = "close other programs, or raise the limit: `ulimit -n 4096`"
_MEMORY = "raise the limit (`ulimit -v unlimited`), or free memory"
_LOCAL = "copy the folder to a local disk, and work there"
_NO_ROOM = re.compile("failed to map segment|[Cc]annot allocate memory")


def limit_error(path: Path | str, code: int | None) -> SystemLimitError | None:
    """The error for a code of the system; None where the code does not stand for a refusal.

    Args:
        path: What was to be opened or mapped.
        code: Code from `errno`.
    """
    match code:
        case errno.EMFILE:
            limit, hint = f"limit of open files is {_soft(resource.RLIMIT_NOFILE)}", _FILES
        case errno.ENFILE:
            limit, hint = "limit of open files of the whole machine is reached", _FILES
        case errno.ENOMEM:
            address_space = _soft(resource.RLIMIT_AS)
            limit, hint = f"limit of address space is {address_space}", _MEMORY
            if address_space == "unlimited":
                limit = "memory, or the number of its maps (vm.max_map_count), is exhausted"
        case errno.ENOLCK:
            limit, hint = "file system, or the machine, has no more locks", _LOCAL
        case errno.ENODEV | errno.EOPNOTSUPP:
            limit, hint = "file system does not allow shared memory maps or locks", _LOCAL
        case _:
            return None
    assert code is not None
    return SystemLimitError(
        f"the system refuses to open {path}: {os.strerror(code)}: the {limit}", hint=hint
    )


def no_room_to_load(error: Exception) -> bool:
    """Whether a library could not be loaded because the system refuses memory to map it."""
    return isinstance(error, ImportError | OSError) and _NO_ROOM.search(str(error)) is not None


@contextmanager
def limits_named(path: Path) -> Iterator[None]:
    """Name the path and the limit where the system refuses something in the block.

    Raises:
        SystemLimitError: A limit of the system was met.
    """
    try:
        yield
    except OSError as error:
        found = limit_error(path, error.errno)
        if found is None:
            raise
        raise found from error


def _soft(kind: int) -> str:
    limit, _ = resource.getrlimit(kind)
    if limit == resource.RLIM_INFINITY:
        return "unlimited"
    return f"{limit // 1024} kB" if kind == resource.RLIMIT_AS else str(limit)


def no_thread(error: Exception) -> SystemLimitError | None:
    """The error where the system refuses Python a further thread; None for any other error."""
    if not isinstance(error, RuntimeError) or str(error) != "can't start new thread":
        return None
    return SystemLimitError(
        f"the system refuses a further thread: the limit of address space is "
        f"{_soft(resource.RLIMIT_AS)}, that of processes {_soft(resource.RLIMIT_NPROC)}",
        hint="raise the limit (`ulimit -v unlimited`, `ulimit -u`), or use fewer threads: "
        "OMP_NUM_THREADS=1",
    )
