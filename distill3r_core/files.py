"""Files are written beside their final name, then renamed: a reader never sees half of one.

A name from a file is not a path until `path_below` has checked it, and the own files of the program
are opened, replaced and removed without following links.
"""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import DEFAULT_BUFFER_SIZE, BufferedReader, FileIO
from pathlib import Path
from typing import TextIO

from distill3r_core.errors import RequestError, UnsafeFileError
from distill3r_core.system.disk import disk_errors

_ASKED_UNCHECKED = 1 << 20  # bytes
_SHOWN = 80  # characters of a name in a message
_LONGEST_PART = 255  # bytes of a file's name, on every common file system

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
    beside.unlink(missing_ok=True)  # a link of this name would be written through
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


def name_fault(name: str) -> str | None:
    """Why a name from a file cannot name something below a folder; None where it can.

    Args:
        name: Parts that are separated by `/`.
    """
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if b"" in parts:
        return "is absolute, or has an empty part"
    if b"." in parts or b".." in parts:
        return "leads out of its folder"
    if b"\0" in name.encode():
        return "contains a null character"
    if max(map(len, parts)) > _LONGEST_PART:
        return f"has a part of more than {_LONGEST_PART} bytes"
    return None


def path_below(folder: Path, name: str) -> Path:
    """The path below a folder that a name from a file stands for.

    Args:
        folder: Where the path starts. It may be a link itself.
        name: Parts that are separated by `/`.

    Raises:
        UnsafeFileError: The name leads out of the folder, by itself or through a link in it.
    """
    if (fault := name_fault(name)) is not None:
        raise UnsafeFileError(f"{shown_name(name)} {fault}: refused as a name below {folder}")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UnsafeFileError(f"{path} leads out of {folder} through a link")
    return path


def shown_name(name: str) -> str:
    """A name from a file for a message: quoted, escaped and of bounded length."""
    return ascii(name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "...")


def open_own(path: Path, *, mode: int = 0o644) -> int:
    """Open or create a file of this program for reading and writing; returns the descriptor.

    What is in the file stays. Links are not followed.

    Raises:
        UnsafeFileError: The path is a link, a device or a pipe.
        OSError: The system refuses.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _not_own(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_own(path)
    return descriptor


def is_there(path: Path) -> bool:
    """Whether something is there to be read, which is no folder.

    A pipe or a device in place of a file counts as there: whoever reads it names it, and does not
    take a file for absent that somebody has put there.
    """
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null character
        return False
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return False
        raise


def refuse_special(path: Path) -> None:
    """Refuse a named pipe or device; what is a file, a folder or absent passes.

    Raises:
        RequestError: It may never end, and cannot be read twice.
    """
    if is_there(path) and not path.is_file():
        raise RequestError(
            f"{path} is a pipe or a device, which cannot be read twice",
            hint="write its content to a file, and give that",
        )


def open_to_read(path: Path) -> int:
    """Open a file, and no device or pipe, which may never end; returns the descriptor.

    A link to a file is followed.

    Raises:
        OSError: It is no file (`errno.EINVAL` or `EISDIR`), or the system refuses.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        raise OSError(code, "not a file, but a device, a pipe or a folder", str(path))
    return descriptor


class _FileReader(BufferedReader):
    """Reads take no more memory than the file has bytes, however many are asked for.

    Readers of formats ask for as many as a length in the file says, and Python makes room for all
    of them first.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _ASKED_UNCHECKED:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def open_file(path: Path) -> BufferedReader:
    """A file opened to read bytes from.

    Raises:
        OSError: As `open_to_read`.
    """
    descriptor = open_to_read(path)
    block = os.fstat(descriptor).st_blksize
    return _FileReader(FileIO(descriptor), max(block, DEFAULT_BUFFER_SIZE))


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: As `open_to_read`.
    """
    with open_file(path) as file:
        return file.read()


def read_own(path: Path) -> bytes:
    """The content of a file of this program.

    Raises:
        UnsafeFileError: The path is a device or a pipe.
        OSError: The system refuses.
    """
    try:
        return read_file(path)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise _not_own(path, "a device or a pipe") from error
        raise


def read_text_file(path: Path, *, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a file, its lines ended by line feeds; see `read_file`.

    Raises:
        OSError: As `read_file`.
        UnicodeDecodeError: It is not text in this encoding.
    """
    text = read_file(path).decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def append_own(path: Path) -> TextIO:
    """Open or create a text file of this program to append lines to; each is written at once.

    Raises:
        UnsafeFileError: The path is a link, a device or a pipe.
    """
    descriptor = open_own(path)
    os.lseek(descriptor, 0, os.SEEK_END)
    return os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)


def remove_own(path: Path) -> None:
    """Remove a file or a folder of this program, if it is there; of a link, the link alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _not_own(path: Path, what: str = "a link, a device or a pipe") -> UnsafeFileError:
    return UnsafeFileError(
        f"{path} is {what}, where a file of this program is expected",
        hint="remove it, or choose another folder",
    )


def remove_leftovers(folder: Path, *, below: bool = True) -> None:
    """Remove what killed processes were writing in a folder; not what others write.

    Args:
        below: In the folders in it as well.
    """
    for path in folder.glob("**/.*.partial*" if below else ".*.partial*"):
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
