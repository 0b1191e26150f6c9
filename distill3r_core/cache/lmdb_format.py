"""Pages of an LMDB file of engine 0.9, as bytes that nothing is believed of.

A file is a row of pages. The first two are meta pages, written in turn: the one with the higher
transaction number says where the two trees begin (records, and pages that are free). A page of a
tree has a header, offsets of its nodes, and the nodes: keys with the number of a page below
(branch), or with a value (leaf). A large value has pages of its own, which follow each other.

Every number is compared with its bounds before it is used. Layout: `mdb.c` of OpenLDAP, version
0.9, on little-endian machines of 64 bits.
"""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from distill3r_core.errors import DamageError
from distill3r_core.files import open_to_read
from distill3r_core.system.system_limits import limits_named

META_BYTES = 152  # of the page that holds it
MOST_LEVELS = 32  # of a tree; LMDB's own limit
PAGE_HEAD = 16
LONGEST_KEY = 511

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_TREE = struct.Struct("<IHHQQQQQ")  # page size, flags, levels, pages of 3 kinds, entries, root
_LAST = struct.Struct("<QQ")  # last page, transaction
_FREE_AT, _RECORDS_AT, _LAST_AT = 40, 88, 136
_PAGE = struct.Struct("<QHHHH")  # number, padding, flags, end of the offsets, start of the nodes
_LARGE = struct.Struct("<QHHI")  # number, padding, flags, count of pages
_NUMBER = struct.Struct("<Q")  # of a page
_NODE = struct.Struct("<HHHH")  # low and high part of a size or number, flags, length of the key
_BRANCH, _LEAF, _LARGE_PAGE = 1, 2, 4
_INTEGER_KEYS, _NO_FOLDER = 0x08, 0x4000  # flags of a tree; the second says how it was opened
_NO_ROOT = (1 << 64) - 1
_PAGE_SIZES = frozenset(1 << n for n in range(9, 17))
_IN_PAGE, _IN_OWN_PAGES = 0, 1  # flags of a leaf's node
FIRST_PAGE = 2  # after the meta pages
_OUTSIDE = "has a node that leads out of it"
_UNSORTED = "has keys that are not in order"
_CUT = "is cut off: the file has become shorter"


@dataclass(frozen=True, slots=True)
class Tree:
    """Where a tree begins; `root` is None where it is empty."""

    levels: int
    root: int | None


@dataclass(frozen=True, slots=True)
class Meta:
    """What the valid one of the two meta pages says."""

    page_size: int
    last_page: int
    transaction: int
    records: Tree
    free: Tree


@dataclass(frozen=True, slots=True)
class LargeValue:
    """A value in pages of its own."""

    page: int
    size: int

    def pages(self, page_size: int) -> int:
        """How many pages it takes, with the header of the first."""
        return (PAGE_HEAD + self.size + page_size - 1) // page_size


class PageError(Exception):
    """What is wrong with a page, for a message."""


def open_pages(path: Path) -> int:
    """Open the file of a database for reading; returns the descriptor.

    Raises:
        DamageError: It is a device or a pipe.
        SystemLimitError: The system refuses to open the file, which may be sound.
    """
    try:
        with limits_named(path):
            return open_to_read(path)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EISDIR):
            raise DamageError(f"{path} is damaged: {error.strerror}") from error
        raise


def read_metas(file: int, path: Path) -> tuple[bytes, bytes]:
    """The bytes of both meta pages.

    Raises:
        DamageError: It is no LMDB file.
    """
    first = os.pread(file, META_BYTES, 0)
    if len(first) == META_BYTES:
        second = os.pread(file, META_BYTES, _page_size(first, path))
        if len(second) == META_BYTES:
            return first, second
    raise _no_database(path)


def parse_metas(metas: tuple[bytes, bytes], path: Path) -> Meta:
    """What the valid one of the two meta pages says.

    Raises:
        DamageError: It is no LMDB file of engine 0.9.
    """
    return max((_parse_meta(head, path) for head in metas), key=lambda meta: meta.transaction)


def transaction_of(metas: tuple[bytes, bytes]) -> int:
    """Number of the last transaction."""
    return max(_LAST.unpack_from(head, _LAST_AT)[1] for head in metas)


def check_size(meta: Meta, size: int, path: Path) -> None:
    """Refuse a file that is shorter than its meta pages say.

    Raises:
        DamageError: Bytes are missing.
    """
    needed = (meta.last_page + 1) * meta.page_size
    if size < needed:
        raise DamageError(
            f"{path} is truncated: {size} bytes, {needed} were written",
            hint="copy it again, or `distill3r cache verify --repair` and `cache --resume`",
        )


class TreePage:
    """A branch or a leaf.

    Args:
        data: Its bytes.
        number: Its number, which it carries as well.
        leaf: Whether it is a leaf, as its level says.

    Raises:
        PageError: It is another page, or its offsets lead out of it. So do the methods.
    """

    __slots__ = ("_data", "_offsets", "_upper", "count", "leaf", "number")

    def __init__(self, data: bytes, number: int, *, leaf: bool) -> None:
        found, _, flags, lower, upper = _PAGE.unpack_from(data)
        if found != number or flags != (_LEAF if leaf else _BRANCH):
            raise PageError("is another page")
        if not PAGE_HEAD < lower <= upper <= len(data) or lower % 2:
            raise PageError("has offsets that overlap its nodes")
        self._data, self._upper, self.number, self.leaf = data, upper, number, leaf
        self._offsets = memoryview(data)[PAGE_HEAD:lower].cast("H")
        self.count = len(self._offsets)

    def key(self, index: int) -> bytes:
        """Key of a node; of a branch's first, which has no lower bound, b""."""
        at, length, *_ = self._node(index)
        return b"" if index == 0 and not self.leaf else self._data[at : at + length]

    def child(self, index: int) -> int:
        """Number of the page below a node of a branch."""
        _, _, low, high, top = self._node(index)
        return low | high << 16 | top << 32

    def value(self, index: int) -> bytes | LargeValue:
        """Value of a node of a leaf, or where it is."""
        at, length, low, high, flags = self._node(index)
        size, start = low | high << 16, at + length
        if flags not in (_IN_PAGE, _IN_OWN_PAGES):
            raise PageError("has a node of another kind")
        end = start + (size if flags == _IN_PAGE else _NUMBER.size)
        if end > len(self._data):
            raise PageError(_OUTSIDE)
        if flags == _IN_PAGE:
            return self._data[start:end]
        (page,) = _NUMBER.unpack_from(self._data, start)
        return LargeValue(page, size)

    def first_at_least(self, key: bytes) -> int:
        """Index of the first node whose key is not below `key`; `count` where there is none."""
        return self._search(key)[0]

    def below(self, key: bytes) -> int:
        """Number of the page below a branch where `key` is, if it is anywhere."""
        at, equal = self._search(key)
        return self.child(at if equal else max(at - 1, 0))

    def find(self, key: bytes) -> bytes | LargeValue | None:
        """Value of a key of a leaf, or where it is; None: the leaf does not have it."""
        at, equal = self._search(key)
        return self.value(at) if equal else None

    def _search(self, key: bytes) -> tuple[int, bool]:
        """Index of the first node whose key is not below `key`, and whether it is `key`."""
        # Every lookup comes through here, some seven nodes a page: no call for each of them.
        data, offsets, upper = self._data, self._offsets, self._upper
        end, last = len(data), len(data) - _NODE.size
        low, high, equal = 0, self.count, False
        while low < high:
            middle = (low + high) // 2
            at = offsets[middle]
            if not upper <= at <= last:
                raise PageError(_OUTSIDE)
            length = _NODE.unpack_from(data, at)[3]
            at += _NODE.size
            if length > LONGEST_KEY or at + length > end:
                raise PageError(_OUTSIDE)
            here = b"" if middle == 0 and not self.leaf else data[at : at + length]
            if here < key:
                low = middle + 1
            else:
                high, equal = middle, here == key
        return low, equal

    def check(self, *, numbers: bool) -> None:
        """Check that keys are in order, and nodes fill their place without a gap or an overlap.

        Args:
            numbers: Whether keys are numbers, as in the tree of free pages.
        """
        keys = [self.key(index) for index in range(self.count)]
        if numbers:
            keys = [key[::-1] for key in keys]  # as big-endian numbers, which sort like text
        if any(after <= one for one, after in pairwise(keys)):
            raise PageError(_UNSORTED)
        used = sum(map(self._room, range(self.count)))
        if used != len(self._data) - self._upper:
            raise PageError("has nodes that overlap")

    def _room(self, index: int) -> int:
        """Bytes of a node, which begins at an even address."""
        _, length, low, high, flags = self._node(index)
        size = 0
        if self.leaf:
            size = low | high << 16 if flags == _IN_PAGE else _NUMBER.size
        return (_NODE.size + length + size + 1) & ~1

    def _node(self, index: int) -> tuple[int, int, int, int, int]:
        """Where its key begins, the key's length, and the three parts of its number."""
        at, end = self._offsets[index], len(self._data)
        if not self._upper <= at <= end - _NODE.size:
            raise PageError(_OUTSIDE)
        low, high, flags, length = _NODE.unpack_from(self._data, at)
        at += _NODE.size
        if length > LONGEST_KEY or at + length > end:
            raise PageError(_OUTSIDE)
        return at, length, low, high, flags


def tree_page(file: int, meta: Meta, number: int, level: int, path: Path) -> TreePage:
    """Read a page of a tree.

    Args:
        file: Descriptor of the file.
        level: 0 for a leaf, more for a branch.

    Raises:
        DamageError: It is cut off, or not what was written.
    """
    with naming_page(path, number):
        _check_range(meta, number, 1)
        data = os.pread(file, meta.page_size, number * meta.page_size)
        if len(data) < meta.page_size:
            raise PageError(_CUT)
        return TreePage(data, number, leaf=level == 0)


def large_value(
    file: int, meta: Meta, value: LargeValue, path: Path, *, most: int | None = None
) -> memoryview:
    """Read a value that has pages of its own, or its first bytes.

    Args:
        file: Descriptor of the file.
        most: How many bytes are wanted; None: all.

    Raises:
        DamageError: It is cut off, or not what was written.
    """
    with naming_page(path, value.page):
        _check_range(meta, value.page, value.pages(meta.page_size))
        size = value.size if most is None else min(most, value.size)
        data = os.pread(file, PAGE_HEAD + size, value.page * meta.page_size)
        if len(data) < PAGE_HEAD + size:
            raise PageError(_CUT)
        number, _, flags, count = _LARGE.unpack_from(data)
        if (number, flags, count) != (value.page, _LARGE_PAGE, value.pages(meta.page_size)):
            raise PageError("is not the first page of the value that is said to be there")
        return memoryview(data)[PAGE_HEAD:]


@contextmanager
def naming_page(path: Path, number: int) -> Iterator[None]:
    """Name the file and the page where a page is at fault.

    Raises:
        DamageError: It is.
    """
    try:
        yield
    except PageError as fault:
        raise damaged_page(path, number, fault) from fault


def damaged_page(path: Path, number: int, fault: PageError) -> DamageError:
    """The error that names the file and the page that is at fault."""
    return DamageError(f"{path} is damaged: page {number} {fault}")


def _check_range(meta: Meta, number: int, count: int) -> None:
    if not (number >= FIRST_PAGE and number + count <= meta.last_page + 1):
        raise PageError("is not in the file")


def _page_size(head: bytes, path: Path) -> int:
    magic, *_ = _META.unpack_from(head, PAGE_HEAD)
    size, *_ = _TREE.unpack_from(head, _FREE_AT)
    if magic != _MAGIC or size not in _PAGE_SIZES:
        raise _no_database(path)
    return size


def _parse_meta(head: bytes, path: Path) -> Meta:
    _, version, _, _ = _META.unpack_from(head, PAGE_HEAD)
    flags = _TREE.unpack_from(head, _FREE_AT)[1]
    last_page, transaction = _LAST.unpack_from(head, _LAST_AT)
    page_size = _page_size(head, path)
    if version != _VERSION:
        raise DamageError(f"{path} is of another engine of LMDB: {version}, not {_VERSION}")
    if flags & ~_NO_FOLDER != _INTEGER_KEYS or _TREE.unpack_from(head, _RECORDS_AT)[1] != 0:
        raise DamageError(f"{path} is damaged: its trees are not those of a shard")
    return Meta(
        page_size,
        last_page,
        transaction,
        records=_parse_tree(head, _RECORDS_AT, path),
        free=_parse_tree(head, _FREE_AT, path),
    )


def _parse_tree(head: bytes, at: int, path: Path) -> Tree:
    _, _, levels, _, _, _, _, root = _TREE.unpack_from(head, at)
    if root == _NO_ROOT:
        return Tree(0, None)
    if not 1 <= levels <= MOST_LEVELS:
        raise DamageError(f"{path} is damaged: a tree of {levels} levels")
    return Tree(levels, root)


def _no_database(path: Path) -> DamageError:
    return DamageError(f"{path} is not an LMDB file, or its first pages are missing")
