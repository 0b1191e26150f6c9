"""Check every page of an LMDB file, before LMDB itself maps the file and writes to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from distill3r_core.cache.lmdb_format import (
    FIRST_PAGE,
    LargeValue,
    Meta,
    PageError,
    Tree,
    TreePage,
    check_size,
    large_value,
    naming_page,
    open_pages,
    parse_metas,
    read_metas,
    tree_page,
)

_WORD = 8  # bytes of a page number in a list of free pages


def check_trees(path: Path) -> None:
    """Walk the tree of records and that of free pages.

    What LMDB relies on holds afterwards: page numbers are in the file, no page has two places,
    pages are of the kind that their place says, nodes lie in their pages, keys are in order.

    Raises:
        DamageError: It does not, or the file is truncated.
        SystemLimitError: The system refuses to open the file.
    """
    with _opened(path) as (file, meta):
        walk = _Walk(file, path, meta)
        walk.check_free()
        walk.check_records()


def check_length(path: Path) -> None:
    """Refuse a file that is shorter than its meta pages say.

    It holds for files of writers that add and replace, and never delete (`shard.ShardWriter`).

    Raises:
        DamageError: Bytes are missing, or it is no LMDB file.
        SystemLimitError: The system refuses to open the file.
    """
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, Meta]]:
    file = open_pages(path)
    try:
        meta = parse_metas(read_metas(file, path), path)
        # Last: a writer makes the file longer before it says so in a meta page.
        check_size(meta, os.fstat(file).st_size, path)
        yield file, meta
    finally:
        os.close(file)


@dataclass
class _Walk:
    file: int
    path: Path
    meta: Meta
    taken: bytearray = field(init=False)  # 1 for every page that has a place

    def __post_init__(self) -> None:
        self.taken = bytearray(self.meta.last_page + 1)

    def check_records(self) -> None:
        for page in self._leaves(self.meta.records, numbers=False):
            with naming_page(self.path, page.number):
                for at in range(page.count):
                    self._place(page.value(at))

    def check_free(self) -> None:
        """Every page that is listed as free is in the file, and has no other place."""
        for page in self._leaves(self.meta.free, numbers=True):
            with naming_page(self.path, page.number):
                for at in range(page.count):
                    if len(page.key(at)) != _WORD:
                        raise PageError("has a key that is no number")
                    value = page.value(at)
                    self._place(value)
                    if isinstance(value, LargeValue):
                        value = large_value(self.file, self.meta, value, self.path)
                    self._check_list(memoryview(value))

    def _place(self, value: bytes | LargeValue) -> None:
        if isinstance(value, LargeValue):
            large_value(self.file, self.meta, value, self.path, most=0)
            self._take(value.page, value.pages(self.meta.page_size))

    def _check_list(self, value: memoryview) -> None:
        count = int.from_bytes(value[:_WORD], "little")
        if len(value) % _WORD or _WORD * (count + 1) > len(value):
            raise PageError("has a list of free pages that is longer than its place")
        pages = value[_WORD : _WORD * (count + 1)].cast("Q").tolist()
        if any(after >= one for one, after in pairwise(pages)):
            raise PageError("has a list of free pages that is not in order")
        for number in pages:
            if not FIRST_PAGE <= number <= self.meta.last_page:
                raise PageError("lists a free page that is not in the file")
            self._take(number, 1)

    def _leaves(self, tree: Tree, *, numbers: bool) -> Iterator[TreePage]:
        """Every leaf, checked."""
        if tree.root is not None:
            before = b""
            for page in self._below(tree.root, tree.levels - 1, numbers):
                with naming_page(self.path, page.number):
                    first, last = page.key(0), page.key(page.count - 1)
                    if numbers:
                        first, last = first[::-1], last[::-1]
                    if first <= before:
                        raise PageError("has keys that are not in order")
                    before = last
                yield page

    def _below(self, number: int, level: int, numbers: bool) -> Iterator[TreePage]:
        page = tree_page(self.file, self.meta, number, level, self.path)
        with naming_page(self.path, number):
            page.check(numbers=numbers)
            self._take(number, 1)
            below = [] if level == 0 else [page.child(at) for at in range(page.count)]
        if level == 0:
            yield page
        for child in below:
            yield from self._below(child, level - 1, numbers)

    def _take(self, number: int, count: int) -> None:
        if self.taken.find(1, number, number + count) >= 0:
            raise PageError("belongs to two places")
        self.taken[number : number + count] = b"\1" * count
