"""LMDB environments that cannot crash the process.

Three things about LMDB are dangerous, and kept away from here on:

- A file that lost its tail is mapped without complaint, and kills the process at the first touch of
  a page that is gone. So the file is measured before it is mapped.
- An environment must be opened once per process, and not be used across a fork. So all readers of a
  file in a process share one environment, which is closed before a fork and opened again on use.
- Memory of a transaction must not be read after it. So records are unpacked inside of it.
"""

import errno
import os
import resource
import struct
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

import lmdb

from distill3r_core.errors import CacheError, DamageError, Distill3rError
from distill3r_core.files import replacing
from distill3r_core.system.allocator import keep_freed_memory
from distill3r_core.system.disk import NO_ROOM, refusal
from distill3r_core.system.interrupts import defer_signals
from distill3r_core.system.system_limits import limit_error, limits_named

DATA = "data.mdb"
READERS = "lock.mdb"  # LMDB's table of readers, made when the data is first opened

_MAP_SIZE = 1 << 40  # of a writer; address space only, a file never outgrows it
_ROOM_TO_GROW = 1 << 26  # bytes that a reader maps beyond the file, for a writer beside it
_SMALL_MAP = 1 << 24  # for an empty file, where address space is limited
_READERS = 1024
_KEPT_BLOCK, _KEPT = 1 << 22, 1 << 28  # bytes: records are smaller, whole samples are larger
_MAGIC = 0xBEEFC0DE
_META = struct.Struct("<IIQQ48s48sQQ")  # after a page header: magic ... last page, transaction
_PAGE_HEAD = 16
_META_END = _PAGE_HEAD + _META.size
_PAGE_SIZE = struct.Struct("<I")
# What LMDB says about the pages of a file. Its other errors are about the system or the caller.
_BROKEN = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.BadTxnError,
    lmdb.BadValsizeError,
)
_LITTLE_ROOM = 1 << 24  # bytes; with less a disk is full, whatever else it may be


def check_length(path: Path) -> None:
    """Refuse a database file that is shorter than its own pages say.

    It holds for files of writers that add and replace, and never delete (`shard.ShardWriter`).

    Raises:
        DamageError: Bytes are missing, or it is no LMDB file.
    """
    with path.open("rb") as file:
        page_size, metas = 0, []
        head = file.read(_META_END)
        if len(head) == _META_END:
            metas.append(_META.unpack_from(head, _PAGE_HEAD))
            page_size = _PAGE_SIZE.unpack_from(metas[0][4])[0]
            file.seek(page_size)
            head = file.read(_META_END)
            if len(head) == _META_END:
                metas.append(_META.unpack_from(head, _PAGE_HEAD))
        # Last: a writer makes the file longer before it says so in a meta page.
        size = os.fstat(file.fileno()).st_size
    if len(metas) < 2 or any(meta[0] != _MAGIC for meta in metas):
        raise DamageError(f"{path} is not an LMDB file, or its first pages are missing")
    last_page = max(metas, key=lambda meta: meta[7])[6]
    needed = (last_page + 1) * page_size
    if size < needed:
        raise DamageError(
            f"{path} is truncated: {size} bytes, {needed} were written",
            hint="copy it again, or `distill3r cache verify --repair` and `cache --resume`",
        )


class Database:
    """One LMDB file, shared by all who use it in this process; opened when it is first read.

    Use `Database.at`, which gives every caller in a process the same one.
    """

    # By device and inode: LMDB knows files by them as well.
    _known: ClassVar["weakref.WeakValueDictionary[tuple[int, int], Database]"] = (
        weakref.WeakValueDictionary()
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment: lmdb.Environment | None = None
        self._writable = False

    @classmethod
    def at(cls, folder: Path) -> "Database":
        """The database in a folder. The file must exist."""
        status = (folder / DATA).stat()
        with _gate.locked():
            key = (status.st_dev, status.st_ino)
            found = cls._known.get(key)
            if found is None:
                found = cls._known[key] = cls(folder)
            elif found._environment is None:
                found.folder = folder  # the cache was moved
            return found

    @classmethod
    def create(cls, folder: Path) -> "Database":
        """The database in a folder, made where there is none, and open for writing."""
        if not (folder / DATA).exists():
            _make(folder)
        database = cls.at(folder)
        database.open_for_writing()
        return database

    def open_for_writing(self) -> None:
        """Make it writable, until `close`. The caller holds the shard's lock."""
        check_length(self.folder / DATA)
        # LMDB takes memory for all pages of a sample, and frees it when they are written (measured:
        # 13 ms of CPU time for 11 MB with fresh pages, 4 with these).
        keep_freed_memory(block=_KEPT_BLOCK, kept=_KEPT)
        with _gate.alone():
            self._close()
            with _writing_to(self.folder):
                self._environment = lmdb.open(
                    str(self.folder),
                    map_size=self._map_size(),
                    max_readers=_READERS,
                    # One flush per commit, not two: the data's. The few bytes that make it valid
                    # are flushed with the next commit, or by `close`. A process that is killed
                    # loses nothing; a power cut may undo the last commit, and damages nothing.
                    metasync=False,
                )
                self._environment.reader_check()  # slots of readers that were killed
            self._writable = True

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction]:
        """A read transaction; its buffers are invalid afterwards.

        Raises:
            DamageError: The file is truncated, or its pages are damaged.
            SystemLimitError: The system refuses to open or map the file, which may be sound.
        """
        while True:
            with _gate.transaction():
                environment = self._opened()
                try:
                    transaction = environment.begin(buffers=True)
                except lmdb.MapResizedError:
                    transaction = None
                except lmdb.Error as error:
                    raise self._fault(error) from error
                if transaction is not None:
                    try:
                        with transaction:
                            yield transaction
                    except lmdb.Error as error:
                        raise self._fault(error) from error
                    return
            self.close()  # a writer beside this process has outgrown the map: map the file anew

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction]:
        """A write transaction, flushed to the disk: all of it is stored, or nothing.

        A killed process loses nothing that was committed; a power cut at most the last commit
        before `close`.

        Raises:
            DiskFullError: There is no room.
            DiskFaultError: The disk is failing.
        """
        assert self._environment is not None and self._writable, "open_for_writing comes first"
        environment = self._environment
        with (
            _gate.transaction(),
            _writing_to(self.folder),
            environment.begin(write=True) as transaction,
        ):
            yield transaction

    def close(self) -> None:
        """Close it; the next reader opens it again.

        Raises:
            DiskFullError: The last commit found no room.
            DiskFaultError: The disk is failing.
        """
        with _gate.alone():
            self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        environment, writable = self._environment, self._writable
        self._environment, self._writable = None, False
        if environment is None:
            return
        try:
            if writable:
                with _writing_to(self.folder):
                    environment.sync(True)
        finally:
            environment.close()

    def _opened(self) -> lmdb.Environment:
        with _gate.locked():
            if self._environment is None:
                path = self.folder / DATA
                with limits_named(path):
                    check_length(path)
                try:
                    self._environment = self._open_reader(lock=True)
                except lmdb.Error as error:
                    # Nobody can write where this process may not: no lock is needed.
                    if not (isinstance(error, lmdb.ReadonlyError) or _is_refused(error)):
                        raise self._fault(error) from error
                    try:
                        self._environment = self._open_reader(lock=False)
                    except lmdb.Error as still:
                        raise self._fault(still) from still
            return self._environment

    def _fault(self, error: lmdb.Error) -> Distill3rError:
        """The error for users: damage only where LMDB has found it in the file's own pages."""
        path = self.folder / DATA
        refused = limit_error(path, _system_code(error))
        if refused is not None:
            return refused
        if isinstance(error, _BROKEN):
            return DamageError(f"{path} cannot be read: {error}")
        return CacheError(f"{path} cannot be read: {error}")

    def _open_reader(self, *, lock: bool) -> lmdb.Environment:
        return lmdb.open(
            str(self.folder),
            readonly=True,
            create=False,
            lock=lock,
            map_size=self._reader_map_size(),
            max_readers=_READERS,
            # Without it, cold reads of half a megabyte are 3 to 9 times slower.
            readahead=True,
        )

    def _reader_map_size(self) -> int:
        size = (self.folder / DATA).stat().st_size
        return size + (_ROOM_TO_GROW if _unlimited() else _SMALL_MAP)

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


def _before_fork() -> None:
    _gate.close()
    for database in list(Database._known.values()):
        if not database._writable:
            database._close()


def _after_fork_in_child() -> None:
    global _gate
    _gate = _Gate()
    # Nothing was being written: the fork waited. This closes the child's half of the environment.
    for database in list(Database._known.values()):
        database._close()


os.register_at_fork(
    before=_before_fork,
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
    data, probe = folder / DATA, folder / f".{DATA}.{os.getpid()}.probe"
    try:
        size = data.stat().st_size if data.exists() else 0
        with probe.open("wb") as file:
            os.posix_fallocate(file.fileno(), size, _LITTLE_ROOM)
    except OSError as error:
        return error.errno if error.errno in NO_ROOM else None
    finally:
        with suppress(OSError):  # the error of the disk is reported, not this one
            probe.unlink(missing_ok=True)
    return None


def _is_refused(error: Exception) -> bool:
    return any(os.strerror(code) in str(error) for code in (errno.EACCES, errno.EPERM, errno.EROFS))


def _unlimited() -> bool:
    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
