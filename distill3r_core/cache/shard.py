"""One shard of a cache: the samples of one writer, in one LMDB environment.

Keys: `n` + name -> what and where the sample is; `d` + number -> its detail (JSON); `t` + number +
view -> maps; `i` + number + view -> image; `f` + number + view + layer -> features; `c` -> identity
of the cache; `h` -> a copy of its header. Numbers are big-endian, so that they sort. The entry
under `n` is written in the same transaction as the rest: where it is, the sample is complete.

Nothing is ever deleted: a replaced or dropped sample loses its entry, `merge` leaves its bytes
behind. So the length of a healthy file is known (see `tree_check.check_length`).
"""

import fcntl
import json
import os
import struct
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lmdb
import zstandard

from distill3r_core.cache.database import DATA, READERS, Database
from distill3r_core.cache.maps.maps_layout import Kind
from distill3r_core.cache.page_reader import PageReader
from distill3r_core.cache.sample_codec import EncodedSample
from distill3r_core.errors import CacheError, ConflictError, DamageError
from distill3r_core.files import open_own, remove_leftovers
from distill3r_core.system.system_limits import limits_named

PREFIX = "shard-"
LONGEST_NAME = 500  # bytes; LMDB's keys end at 511

_LOCK = "writer.lock"
_IDENTITY, _HEADER = b"c", b"h"
_ENTRY = struct.Struct("<IHHHHQQ")  # number, views, height, width, kind, bytes of maps, of images
_CRC = struct.Struct("<I")
_DROPPED = 0xFFFFFFFF
_LARGEST_SIDE = 1 << 12  # pixels of a student's image; a forged record may ask for all of it
_LARGEST_HEADER = 1 << 28  # bytes: a million samples


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished sample."""

    number: int
    views: int
    size: tuple[int, int]
    kind: Kind
    maps_bytes: int
    images_bytes: int
    content: str  # hash of all that the teacher read


def shard_folders(cache: Path) -> list[Path]:
    """The shards of a cache, in the order of their numbers."""
    return sorted(path.parent for path in cache.glob(f"{PREFIX}*/{DATA}"))


def emptied_shards(cache: Path) -> list[Path]:
    """Shards whose database is gone: what LMDB makes when it is first opened is there."""
    folders = sorted(path.parent for path in cache.glob(f"{PREFIX}*/{READERS}"))
    return [folder for folder in folders if not (folder / DATA).exists()]


class ShardReader:
    """Reads one shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pages = PageReader(folder / DATA)

    def entries(self) -> list[tuple[str, Entry]]:
        """Every finished sample whose entry is sound, sorted by name."""
        return self.listing()[0]

    def listing(self) -> tuple[list[tuple[str, Entry]], list[tuple[str, str]]]:
        """Every finished sample, and the names of damaged entries with what is wrong.

        Raises:
            DamageError: The file itself cannot be read.
        """
        found, damaged = list[tuple[str, Entry]](), list[tuple[str, str]]()
        for key, value in self._pages.items(b"n"):
            name = key[1:].decode(errors="surrogateescape")
            try:
                entry = _unpack(key, value)
            except DamageError as error:
                damaged.append((name, error.message))
                continue
            if entry is not None:
                found.append((name, entry))
        return found, damaged

    def entry(self, name: str) -> Entry | None:
        """One finished sample, or None."""
        key = _name_key(name)
        value = self._pages.get(key)
        return None if value is None else _unpack(key, value)

    def identity(self) -> str:
        """Identity of the cache that the shard belongs to; "" where it carries none.

        Raises:
            DamageError: It cannot be read.
        """
        value = self._pages.get(_IDENTITY)
        return "" if value is None else _opened(value, _IDENTITY).decode(errors="replace")

    def header_copy(self) -> bytes | None:
        """The copy of the cache's header, as text; None where the shard has none.

        Raises:
            DamageError: It is not what was written.
        """
        value = self._pages.get(_HEADER)
        if value is None:
            return None
        data = _opened(value, _HEADER)
        try:
            # What the frame declares is allocated.
            if not 0 <= zstandard.frame_content_size(data) <= _LARGEST_HEADER:
                raise DamageError("the copy of the header claims more bytes than a header has")
            return zstandard.decompress(data)
        except zstandard.ZstdError as error:
            raise DamageError(f"the copy of the header cannot be unpacked: {error}") from error

    def header_fault(self) -> str | None:
        """What is damaged of the identity and of the copy of the header, if anything is."""
        try:
            self.identity()
            self.header_copy()
        except DamageError as error:
            return f"{self.folder / DATA}: {error.message}"
        return None

    def detail(self, entry: Entry) -> dict[str, Any]:
        """Where a sample came from.

        Raises:
            DamageError: It is not what was written, or does not fit the sample.
        """
        key = _sample_key(entry.number)
        try:
            found = json.loads(_opened(self._get(key), key))
        except (ValueError, RecursionError) as error:
            raise DamageError(f"the detail {key!r} is not JSON") from error
        pictures = found.get("pictures") if isinstance(found, dict) else None
        if not isinstance(pictures, list) or len(pictures) != entry.views:
            raise DamageError(f"the detail {key!r} does not name {entry.views} pictures")
        if not all(isinstance(picture, str) for picture in pictures):
            raise DamageError(f"the detail {key!r} names pictures by what is no text")
        return found

    def maps(self, entry: Entry, view: int) -> memoryview:
        """The record of a view's maps."""
        return self._get(_view_key(b"t", entry.number, view))

    def image(self, entry: Entry, view: int) -> memoryview:
        """The record of a view's image."""
        return self._get(_view_key(b"i", entry.number, view))

    def features(self, entry: Entry, view: int, layer: str) -> memoryview:
        """The record of a view's features of a layer."""
        return self._get(_view_key(b"f", entry.number, view) + layer.encode())

    def _get(self, key: bytes) -> memoryview:
        value = self._pages.get(key)
        if value is None:
            raise DamageError(f"{self.folder} lacks a record of a sample that it lists")
        return value


class ShardWriter:
    """Writes one shard; the only one to do so, as long as its process lives.

    Raises:
        ConflictError: Another process writes to it.
        DamageError: The file is truncated.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = WriterLock(folder)
        try:
            remove_leftovers(folder)  # of writers that were killed: the lock says there is no other
            self._database = Database(folder)
            self._pages = PageReader(folder / DATA)
            details = self._pages.items(b"d", large=False)
            self._next = 1 + max((int.from_bytes(key[1:], "big") for key, _ in details), default=-1)
        except BaseException:
            self._lock.release()
            raise

    def put(self, sample: EncodedSample) -> None:
        """Store a sample, all of it or nothing; see `Database.writing` for what a crash may cost.

        Raises:
            DiskFullError: There is no room; the samples before are safe.
        """
        self.put_all((sample,))

    def put_all(self, samples: Sequence[EncodedSample]) -> None:
        """Store samples in one transaction: all of them, or nothing.

        Raises:
            DiskFullError: There is no room; the samples before are safe.
        """
        with self._database.writing() as transaction:
            for number, sample in enumerate(samples, start=self._next):
                self._put(transaction, number, sample)
        self._next += len(samples)

    @staticmethod
    def _put(transaction: lmdb.Transaction, number: int, sample: EncodedSample) -> None:
        key = _name_key(sample.name)
        entry = Entry(
            number,
            len(sample.maps),
            sample.size,
            sample.kind,
            sum(map(len, sample.maps)),
            sum(map(len, sample.images)),
            sample.content,
        )
        for view, (maps, image) in enumerate(zip(sample.maps, sample.images, strict=True)):
            transaction.put(_view_key(b"t", number, view), maps)
            transaction.put(_view_key(b"i", number, view), image)
        for layer, records in sample.features.items():
            for view, features in enumerate(records):
                transaction.put(_view_key(b"f", number, view) + layer.encode(), features)
        detail = _sample_key(number)
        transaction.put(detail, _sealed(sample.detail_bytes, detail))
        transaction.put(key, _pack(key, entry))

    def keep_header(self, identity: str, header: bytes) -> None:
        """Store a copy of the cache's header, from which a lost one is rebuilt.

        Args:
            identity: Identity of the cache.
            header: Text of `cache.json`.
        """
        wanted = {
            _IDENTITY: _sealed(identity.encode(), _IDENTITY),
            _HEADER: _sealed(zstandard.compress(header, 1), _HEADER),
        }
        if all(self._pages.get(key) == value for key, value in wanted.items()):
            return
        with self._database.writing() as transaction:
            for key, value in wanted.items():
                transaction.put(key, value)

    def drop(self, name: str) -> None:
        """Forget a sample, so that the next run makes it again."""
        key = _name_key(name)
        gone = Entry(_DROPPED, 0, (0, 0), Kind(0), 0, 0, "")
        with self._database.writing() as transaction:
            transaction.put(key, _pack(key, gone))

    def close(self) -> None:
        """Give the shard free."""
        try:
            self._database.close()
        finally:
            self._lock.release()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WriterLock:
    """The right to write to a shard, which dies with its process.

    Raises:
        ConflictError: Another process has it.
    """

    _held: ClassVar["weakref.WeakSet[WriterLock]"] = weakref.WeakSet()

    def __init__(self, folder: Path) -> None:
        path = folder / _LOCK
        with limits_named(path):
            self._descriptor: int | None = open_own(path)
        try:
            with limits_named(path):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise ConflictError(
                f"another process is writing to {path.parent}",
                hint="wait for it, or give each its own part with --shard i/n",
            ) from error
        self._held.add(self)

    @classmethod
    def held(cls) -> list["WriterLock"]:
        """All that this process has."""
        return list(cls._held)

    def release(self) -> None:
        """Give it free, for children that were forked as well."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.let_go()

    def let_go(self) -> None:
        """In a forked child: close what was inherited; the parent's lock stays held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _let_go_in_child() -> None:
    # A child must neither free the shard while its parent writes nor keep it when that has ended.
    for lock in WriterLock.held():
        lock.let_go()


os.register_at_fork(after_in_child=_let_go_in_child)


def _name_key(name: str) -> bytes:
    key = name.encode(errors="surrogateescape")  # a damaged name need not be text
    if not 0 < len(key) <= LONGEST_NAME:
        raise CacheError(
            f"the sample's name has {len(key)} bytes, at most {LONGEST_NAME} fit: {name}"
        )
    return b"n" + key


def _sample_key(number: int) -> bytes:
    return b"d" + struct.pack(">I", number)


def _view_key(prefix: bytes, number: int, view: int) -> bytes:
    return prefix + struct.pack(">IH", number, view)


def _pack(key: bytes, entry: Entry) -> bytes:
    head = _ENTRY.pack(
        entry.number,
        entry.views,
        *entry.size,
        int(entry.kind),
        entry.maps_bytes,
        entry.images_bytes,
    )
    return _sealed(head + entry.content.encode(), key)


def _unpack(key: bytes, value: bytes | memoryview) -> Entry | None:
    body = _opened(value, key)
    if len(body) < _ENTRY.size:
        raise DamageError(f"the entry {key!r} is cut short")
    number, views, height, width, kind, maps, images = _ENTRY.unpack_from(body)
    if number == _DROPPED:
        return None
    known = sum(Kind)
    if not (views and 0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE) or kind & ~known:
        raise DamageError(f"the entry {key!r} is of a sample that cannot be")
    content = body[_ENTRY.size :].decode(errors="backslashreplace")
    return Entry(number, views, (height, width), Kind(kind), maps, images, content)


def _sealed(body: bytes, key: bytes) -> bytes:
    """A value with its checksum, which covers its key as well."""
    return body + _CRC.pack(zlib.crc32(body, zlib.crc32(key)))


def _opened(value: bytes | memoryview, key: bytes) -> bytes:
    """The value without its checksum.

    Raises:
        DamageError: It does not match.
    """
    data = bytes(value)
    body, checksum = data[: -_CRC.size], data[-_CRC.size :]
    if checksum != _CRC.pack(zlib.crc32(body, zlib.crc32(key))):
        raise DamageError(f"the entry {key!r} does not match its checksum")
    return body
