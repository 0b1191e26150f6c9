"""Read an LMDB file without mapping it: nothing in the file, and no cut of it, ends the process.

LMDB maps its file and follows what its pages say. A file that is cut while it is read then kills
the process (SIGBUS), and so may a forged or damaged page (SIGSEGV, abort). Here pages are read like
any file's bytes, and each is checked before it is followed. Reading needs no lock, no address
space, no table of readers, and a fork or a thread changes nothing for it.

A writer may be at work in another process. LMDB never changes a page of the newest state, and uses
pages of state n again in transaction n + 3 at the earliest. So what was read of state n is right if
no transaction after n + 1 was finished meanwhile; otherwise it is read again.
"""

import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distill3r_core.cache.lmdb_format import (
    LargeValue,
    Meta,
    PageError,
    TreePage,
    check_size,
    damaged_page,
    large_value,
    naming_page,
    open_pages,
    parse_metas,
    read_metas,
    transaction_of,
    tree_page,
)
from distill3r_core.errors import CacheError, DamageError

_MOST_TURNS = 1000  # reads that a writer overtakes, one after the other


class PageReader:
    """Reads records of one LMDB file, from any thread, also beside a writer.

    Raises:
        SystemLimitError: The system refuses to open the file, which may be sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_pages(path)
        # Not at the end of the process: threads may still read, and the number be used anew.
        weakref.finalize(self, os.close, self._file).atexit = False
        self._snapshot: Snapshot | None = None

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key, in memory of its own; None where there is none.

        Raises:
            DamageError: The file is truncated, or a page on the way is not what was written.
        """
        for _ in range(_MOST_TURNS):
            snapshot = self._newest()
            try:
                found = snapshot.find(key)
            except DamageError:
                if not self._overtaken(snapshot):
                    raise
            else:
                if not self._overtaken(snapshot):
                    return found
        raise self._busy()

    def items(self, prefix: bytes, *, large: bool = True) -> Iterator[tuple[bytes, memoryview]]:
        """Every key that starts with `prefix`, in order, and its value.

        A writer's newer keys may be among them or not.

        Args:
            large: Read large values; otherwise they are empty.

        Raises:
            DamageError: As of `get`.
        """
        start, turns = prefix, 0
        while turns < _MOST_TURNS:
            snapshot, turns = self._newest(), turns + 1
            leaves = snapshot.leaves(start)
            while True:
                found, ended = list[tuple[bytes, memoryview]](), True
                try:
                    leaf = next(leaves, None)
                    if leaf is not None:
                        found, ended = snapshot.values(leaf, start, prefix, large=large)
                except DamageError:
                    if not self._overtaken(snapshot):
                        raise
                    break
                if self._overtaken(snapshot):
                    break
                yield from found
                if ended:
                    return
                if found:
                    start, turns = found[-1][0] + b"\0", 0
        raise self._busy()

    def _newest(self) -> "Snapshot":
        snapshot = self._snapshot
        if snapshot is None or not snapshot.is_newest():
            metas = read_metas(self._file, self.path)
            while (again := read_metas(self._file, self.path)) != metas:
                metas = again  # the first one was half written
            meta = parse_metas(metas, self.path)
            # Last: a writer makes the file longer before it says so in a meta page.
            check_size(meta, os.fstat(self._file).st_size, self.path)
            snapshot = self._snapshot = Snapshot(self._file, self.path, meta, metas)
        return snapshot

    def _overtaken(self, snapshot: "Snapshot") -> bool:
        if snapshot.is_newest():
            return False
        return transaction_of(read_metas(self._file, self.path)) > snapshot.meta.transaction + 1

    def _busy(self) -> CacheError:
        return CacheError(
            f"{self.path} is being written faster than it can be read",
            hint="wait for the writer, and run again",
        )


@dataclass(slots=True)
class Snapshot:
    """A file as of one transaction.

    Args:
        source: The meta pages that say so.
        latest: The page that was followed last at each level: records that are read one after the
            other lie beside each other. No page of the newest state changes, and with another
            state comes another snapshot.
    """

    file: int
    path: Path
    meta: Meta
    source: tuple[bytes, bytes]
    latest: dict[int, TreePage] = field(default_factory=dict)

    def is_newest(self) -> bool:
        """Whether the file's meta pages are still those that this is of."""
        first, second = self.source
        return (
            os.pread(self.file, len(first), 0) == first
            and os.pread(self.file, len(second), self.meta.page_size) == second
        )

    def find(self, key: bytes) -> memoryview | None:
        """The value of a key."""
        tree, number = self.meta.records, self.meta.records.root
        if number is None:
            return None
        try:
            for level in range(tree.levels - 1, 0, -1):
                number = self._page(number, level).below(key)
            value = self._page(number, 0).find(key)
        except PageError as fault:
            raise damaged_page(self.path, number, fault) from fault
        return None if value is None else self._value(value)

    def leaves(self, start: bytes) -> Iterator[TreePage]:
        """Leaves that may hold keys from `start` on, in order."""
        tree = self.meta.records
        if tree.root is not None:
            yield from self._leaves(tree.root, tree.levels - 1, start, set())

    def values(
        self, leaf: TreePage, start: bytes, prefix: bytes, *, large: bool
    ) -> tuple[list[tuple[bytes, memoryview]], bool]:
        """Keys and values of a leaf, from `start` to the last one with the prefix.

        Also whether keys without the prefix follow.
        """
        found = list[tuple[bytes, memoryview]]()
        with naming_page(self.path, leaf.number):
            for at in range(leaf.first_at_least(start), leaf.count):
                key, value = leaf.key(at), leaf.value(at)
                if not key.startswith(prefix):
                    return found, True
                skipped = isinstance(value, LargeValue) and not large
                found.append((key, memoryview(b"") if skipped else self._value(value)))
        return found, False

    def _leaves(self, number: int, level: int, start: bytes, seen: set[int]) -> Iterator[TreePage]:
        page = self._page(number, level)
        if number in seen:
            raise DamageError(f"{self.path} is damaged: page {number} has two places")
        seen.add(number)
        if level == 0:
            yield page
            return
        with naming_page(self.path, number):
            first = page.first_at_least(start)
            if first == page.count or page.key(first) != start:
                first = max(first - 1, 0)
            below = [page.child(at) for at in range(first, page.count)]
        for child in below:
            yield from self._leaves(child, level - 1, start, seen)

    def _page(self, number: int, level: int) -> TreePage:
        page = self.latest.get(level)
        if page is None or page.number != number:
            page = self.latest[level] = tree_page(self.file, self.meta, number, level, self.path)
        return page

    def _value(self, value: bytes | LargeValue) -> memoryview:
        if isinstance(value, bytes):
            return memoryview(value)
        return large_value(self.file, self.meta, value, self.path)
