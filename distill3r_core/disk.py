"""What a disk refuses: room, or to work at all. Both are named with the path, and told apart."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill3r_core.errors import DiskFaultError, DiskFullError

# EFBIG: the limit on the size of a file, `ulimit -f`.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def refusal(
    path: Path, code: int | None, *, then: str = "run again"
) -> DiskFullError | DiskFaultError | None:
    """The error that stands for the system's code; None where the disk is not to blame.

    Args:
        path: What was being written.
        code: Of `errno`.
        then: What to do when there is room again.
    """
    if code is None:
        return None
    if code in NO_ROOM:
        return DiskFullError(
            f"cannot write {path}: {os.strerror(code)}", hint=f"free some space and {then}"
        )
    if code == errno.EIO:
        return DiskFaultError(
            f"cannot write {path}: {os.strerror(code)}: the disk, or the way to it, is failing",
            hint="look into the system's log (dmesg), and write to another disk with -o",
        )
    return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say which path the disk refused, where the system only says that it did.

    Raises:
        DiskFullError: The block ran into a full disk, a quota or a file size limit.
        DiskFaultError: The disk is failing.
    """
    try:
        yield
    except OSError as error:
        found = refusal(path, error.errno)
        if found is None:
            raise
        raise found from error
