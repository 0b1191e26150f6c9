"""LMDB environments of writers. Readers do without LMDB (`page_reader`).

Two things about LMDB are dangerous:

- It maps the file and follows its pages without a check, and what it finds there may kill the
  process. So every page is checked before the file is mapped (`tree_check`), and its length before
  each transaction.
- An environment must not be used across a fork. So a fork waits for transactions that run, and a
  child closes its half.
"""

import errno
import os
import resource
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import lmdb

from distill3r_core.cache.tree_check import check_length, check_trees
from distill3r_core.errors import CacheError, DamageError
from distill3r_core.files import open_own, replacing
from distill3r_core.system.allocator import keep_freed_memory
from distill3r_core.system.disk import NO_ROOM, refusal
from distill3r_core.system.interrupts import defer_signals
from distill3r_core.system.system_limits import limit_error

DATA = "data.mdb"
READERS = "lock.mdb"  # LMDB's table of readers, made when the data is first opened

_MAP_SIZE = 1 << 40  # address space only, a file never outgrows it
_SMALL_MAP = 1 << 24  # for an empty file, where address space is limited
_READERS = 1024
_KEPT_BLOCK, _KEPT = 1 << 22, 1 << 28  # bytes: records are smaller, whole samples are larger
# What LMDB says about the pages of a file. Its other errors are about the system or the caller.
_BROKEN = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.BadTxnError,
)
_LITTLE_ROOM = 1 << 24  # bytes; with less a disk is full, whatever else it may be


class Database:
    """One LMDB file that is open for writing. Readers use `PageReader`, which maps nothing.

    Args:
        folder: Where it is; made where there is none. The caller holds the shard's lock.

    Raises:
        DamageError: The file is truncated, or its pages are not what was written.
        SystemLimitError: The system refuses to open or map the file, which may be sound.
        DiskFullError: There is no room.
    """

    _open: ClassVar["weakref.WeakSet[Database]"] = weakref.WeakSet()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment: lmdb.Environment | None = None
        if not (folder / DATA).exists():
            _make(folder)
        for name in (DATA, READERS):
            os.close(open_own(folder / name))  # LMDB follows links
        check_trees(folder / DATA)
        # LMDB takes memory for all pages of a sample, and frees it when they are written (measured:
        # 13 ms of CPU time for 11 MB with fresh pages, 4 with these).
        keep_freed_memory(block=_KEPT_BLOCK, kept=_KEPT)
        with _gate.alone():
            with _writing_to(folder):
                self._environment = lmdb.open(
                    str(folder),
                    map_size=self._map_size(),
                    max_readers=_READERS,
                    # One flush per commit, not two: the data's. The few bytes that make it valid
                    # are flushed with the next commit, or by `close`. A process that is killed
                    # loses nothing; a power cut may undo the last commit, and damages nothing.
                    metasync=False,
                )
                # Readers of earlier versions that were killed: pages are not used again for them.
                self._environment.reader_check()
            self._open.add(self)

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction]:
        """A write transaction, flushed to the disk: all of it is stored, or nothing.

        A killed process loses nothing that was committed; a power cut at most the last commit
        before `close`.

        Raises:
            DiskFullError: There is no room.
            DiskFaultError: The disk is failing.
            DamageError: The file has become shorter than what was written.
        """
        assert self._environment is not None, "it is closed"
        environment = self._environment
        check_length(self.folder / DATA)
        with (
            _gate.transaction(),
            _writing_to(self.folder),
            environment.begin(write=True) as transaction,
        ):
            yield transaction

    def close(self) -> None:
        """Close it.

        Raises:
            DiskFullError: The last commit found no room.
            DiskFaultError: The disk is failing.
        """
        with _gate.alone():
            self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is None:
            return
        try:
            with _writing_to(self.folder):
                environment.sync(True)
        finally:
            environment.close()

    def _map_size(self) -> int:
        if _unlimited():
            return _MAP_SIZE
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        return max((self.folder / DATA).stat().st_size * 2, limit // 8)


class _Gate:
    """Lets transactions in, or one caller who must be alone: to close or to fork."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.RLock())
        self._running = 0
        self._closed = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        with defer_signals(), self._condition:
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with defer_signals():
            with self._condition:
                while self._closed:
                    self._condition.wait()
                self._running += 1
            try:
                yield
            finally:
                with self._condition:
                    self._running -= 1
                    self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with defer_signals():
            self.close()
            try:
                yield
            finally:
                self.open()

    def close(self) -> None:
        self._condition.acquire()
        self._closed = True
        while self._running:
            self._condition.wait()

    def open(self) -> None:
        self._closed = False
        self._condition.notify_all()
        self._condition.release()


_gate = _Gate()


def _after_fork_in_child() -> None:
    global _gate
    _gate = _Gate()
    # Nothing was being written: the fork waited. This closes the child's half of the environment.
    for database in list(Database._open):
        database._close()


os.register_at_fork(
    before=lambda: _gate.close(),
    after_in_parent=lambda: _gate.open(),
    after_in_child=_after_fork_in_child,
)


def _make(folder: Path) -> None:
    """An empty database of engine 0.9, which any tool of the last ten years can read.

    LMDB makes the file first and fills it then; another rank's reader must not see it between, nor
    may a kill leave it so.
    """
    size = _MAP_SIZE if _unlimited() else _SMALL_MAP
    with replacing(folder / DATA, durable=True) as beside, _writing_to(folder):
        one_file = partial(lmdb.open, str(beside), map_size=size, subdir=False, lock=False)
        if int(lmdb.__version__.split(".")[0]) >= 3:
            one_file(lib_version=0).close()
        else:
            one_file().close()


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.MapFullError as error:
        found = limit_error(folder / DATA, errno.ENOMEM)
        assert found is not None
        raise found from error
    except (lmdb.Error, OSError) as error:
        code = _code_of(error, folder)
        found = refusal(folder, code, then="resume with `distill3r cache --resume`")
        found = found or limit_error(folder / DATA, _system_code(error))
        if found is None and isinstance(error, lmdb.Error):
            kind = DamageError if isinstance(error, _BROKEN) else CacheError
            found = kind(f"{folder / DATA} cannot be written: {error}")
        if found is None:
            raise
        raise found from error


def _code_of(error: Exception, folder: Path) -> int | None:
    """What the system said, where it was about the disk."""
    if isinstance(error, OSError):
        return error.errno
    # LMDB has classes for its own errors; of the system's it passes on the words.
    codes = (*NO_ROOM, errno.EIO)
    code = next((code for code in codes if os.strerror(code) in str(error)), None)
    if code == errno.EIO:
        # Its word for a write that was cut short, too, which is how a disk becomes full.
        return _lack_of_room(folder) or code
    return code


def _system_code(error: Exception) -> int | None:
    """Code of the system that an error stands for; None where it is LMDB's own."""
    if isinstance(error, OSError):
        return error.errno
    if isinstance(error, lmdb.MemoryError):
        return errno.ENOMEM
    words = str(error)
    return next((code for code in errno.errorcode if words.endswith(os.strerror(code))), None)


def _lack_of_room(folder: Path) -> int | None:
    """Why the database cannot grow; None where it can."""
    data, probe = folder / DATA, folder / f".{DATA}.{os.getpid()}.partial"
    try:
        size = data.stat().st_size if data.exists() else 0
        with os.fdopen(open_own(probe), "wb") as file:
            os.posix_fallocate(file.fileno(), size, _LITTLE_ROOM)
    except OSError as error:
        return error.errno if error.errno in NO_ROOM else None
    finally:
        with suppress(OSError):  # the error of the disk is reported, not this one
            probe.unlink(missing_ok=True)
    return None


def _unlimited() -> bool:
    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
