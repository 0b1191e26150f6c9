"""Turn errors of the disk (full, failing) into errors that name the path."""

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
    """The error for a code of the system; None where the disk is not the cause.

    Args:
        then: What to do when there is space again.
    """
    if code is None:
        return None
    if code in NO_ROOM:
        return DiskFullError(
            f"cannot write {path}: {os.strerror(code)}", hint=f"free some space and {then}"
        )
    if code == errno.EIO:
        return DiskFaultError(
            f"cannot write {path}: {os.strerror(code)}: the disk or its connection is failing",
            hint="see the system log (dmesg), and write to another disk with -o",
        )
    return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Name the path when the disk refuses a write in the block.

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
