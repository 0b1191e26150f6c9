"""Files are written beside their final name, then renamed: a reader never sees half of one."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill3r_core.disk import disk_errors

_BESIDE = re.compile(r"\..+\.(?P<process>\d+)\.partial(\.[^.]*)?")


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the final name when the block succeeds.

    Args:
        path: The final name. Its folder is made.
        durable: Wait until the bytes are on the disk before the rename.

    Raises:
        DiskFullError: There is no room; what was written is removed, what was there stays.
        DiskFaultError: The disk is failing; the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as Pillow choose the format by it.
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    with disk_errors(path):
        try:
            yield beside
            if durable:
                _sync(beside)
            beside.replace(path)
            if durable:
                _sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing in a folder and below it; not what others write."""
    for path in folder.rglob(".*.partial*"):
        found = _BESIDE.fullmatch(path.name)
        if found is not None and not _is_alive(int(found["process"])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file whole or not at all."""
    with replacing(path, durable=durable) as beside:
        beside.write_text(text, encoding="utf-8")


def _sync_folder(path: Path) -> None:
    try:
        _sync(path)
    except OSError as error:  # some network file systems sync files alone
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
