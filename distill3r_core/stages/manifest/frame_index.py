"""What `manifest` remembers between runs: what was made of which file, under which settings."""

import fcntl
import json
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np

from distill3r_core.data.layouts import Frame
from distill3r_core.data.manifest_views import INDEX
from distill3r_core.errors import ConflictError, RequestError
from distill3r_core.files import open_own, replacing
from distill3r_core.system.disk import disk_errors

_LOCK = ".lock"
_BEGINNING = b'{"key":"'  # of every line
_DECODER = json.JSONDecoder()
_UNSORTED = 50_000  # keys that wait to be sorted in


class FrameEntry(NamedTuple):  # made in a quarter of a dataclass's time
    """What became of one frame.

    Args:
        sources: Stamps of its files when it was read; None where there was none.
        written: Stamps of what was written, or of the image that is named in place of a copy, by
            path in the manifest.
    """

    key: str
    made: str  # digest of all settings that decide what is made of it
    sources: tuple[tuple[int, int] | None, ...]
    refused: str | None = None
    row: Mapping[str, Any] | None = None  # cells of its manifest row, where it was written
    written: Mapping[str, tuple[int, int]] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def stands(self, folder: Path, made: str, sources: tuple[Any, ...]) -> bool:
        """Whether nothing has changed since: settings, source files and what was written."""
        if self.made != made or self.sources != sources:
            return False
        # An absolute path is that of an original image, which is one of the sources.
        for name, stamp in self.written.items():
            if not name.startswith("/") and stamp_of(f"{folder}/{name}") != stamp:
                return False
        return True


class FrameIndex:
    """Entries by key in a file that grows while a run works: a kill loses at most one line.

    In memory is only where the line of each key begins, in 16 bytes: there may be millions.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX
        self._starts = _LineStarts()
        self._file: IO[bytes] | None = None
        self._reader: IO[bytes] | None = None
        self._end = 0
        self.has_grown = False  # since it was compacted, by this run or one that was killed
        if self.path.is_file():
            with self.path.open("rb") as file:
                for line in file:
                    if (key := _key_of(line)) is not None:
                        self._starts.add(key, self._end)
                    else:
                        self.has_grown = True
                    self._end += len(line)

    def get(self, key: str) -> FrameEntry | None:
        """What is remembered of a key; None: nothing."""
        if (start := self._starts.get(key)) is None:
            return None
        if self._reader is None:
            self._reader = self.path.open("rb")
        self._reader.seek(start)
        entry = _parse(self._reader.readline())
        return entry if entry is not None and entry.key == key else None

    def add(self, entry: FrameEntry) -> None:
        """Remember an entry now."""
        line = _line(entry)
        with disk_errors(self.path):
            if self._file is None:
                self._file = os.fdopen(open_own(self.path), "r+b")
                self._file.seek(0, os.SEEK_END)
                self._write(b"\n")  # ends the torn last line of a run that was killed
            start = self._end
            self._write(line)
            self._file.flush()
        self._starts.add(entry.key, start)
        self.has_grown = True

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._file is not None:
            with disk_errors(self.path):
                self._file.close()
            self._file = None

    def compact(self) -> None:
        """Write each key once, if anything was added."""
        self.close()
        if not self.has_grown:
            return
        kept = _LineStarts()
        end = 0
        with (
            replacing(self.path) as beside,
            self.path.open("rb") as grown,
            beside.open("wb") as file,
        ):
            for start in self._starts.in_order():
                grown.seek(start)
                line = grown.readline()
                if (key := _key_of(line)) is not None:
                    kept.add(key, end)
                    end += file.write(line)
        self._starts, self._end, self.has_grown = kept, end, False

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)
        self._end += len(line)


class _LineStarts:
    """Where the line of each key begins: two arrays of 8 bytes a key, sorted by its hash.

    Of two keys with one hash the later one is known (five million keys: one chance in a million).
    """

    def __init__(self) -> None:
        self._hashes, self._starts = array("q"), array("q")
        self._latest: dict[int, int] = {}

    def add(self, key: str, start: int) -> None:
        """Note where the line of a key begins; an earlier line counts no more."""
        self._latest[hash(key)] = start
        if len(self._latest) >= _UNSORTED:
            self._sort()

    def get(self, key: str) -> int | None:
        """Where the line of a key begins; None: there is none."""
        found = hash(key)
        if (start := self._latest.get(found)) is not None:
            return start
        place = bisect_left(self._hashes, found)
        known = place < len(self._hashes) and self._hashes[place] == found
        return self._starts[place] if known else None

    def in_order(self) -> "array[int]":
        """All beginnings, in the order of the file."""
        self._sort()
        return array("q", np.sort(np.array(self._starts)).tobytes())

    def _sort(self) -> None:
        hashes = np.concatenate(
            [np.array(self._hashes), np.fromiter(self._latest.keys(), np.int64)]
        )
        starts = np.concatenate(
            [np.array(self._starts), np.fromiter(self._latest.values(), np.int64)]
        )
        order = np.argsort(hashes, kind="stable")  # of one hash the latest comes last
        hashes, starts = hashes[order], starts[order]
        last = np.append(hashes[1:] != hashes[:-1], True)[: len(hashes)]
        self._hashes = array("q", hashes[last].tobytes())
        self._starts = array("q", starts[last].tobytes())
        self._latest.clear()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder; the lock dies with the process.

    Raises:
        ConflictError: Another process holds it.
        RequestError: Nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = open_own(folder / _LOCK)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RequestError(
            f"cannot write to {folder}: {reason}", hint="choose another folder with -o"
        ) from error
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(f"another run is writing {folder}") from error
        yield


def sources_of(frame: Frame) -> tuple[tuple[int, int] | None, ...]:
    """Stamps of a frame's files."""
    return tuple([stamp_of(path) for path in frame.files])


def stamp_of(path: str | Path) -> tuple[int, int] | None:
    """Size and time of a file, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  Path(...).stat() takes twice the time
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _line(entry: FrameEntry) -> bytes:
    # Nothing that stayed empty: there is a line for every frame of every data set.
    values = {name: value for name, value in entry._asdict().items() if value}
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return f"{text}\n".encode()


def _key_of(line: bytes) -> str | None:
    """The key of a whole line, without reading the rest of it; None: it is torn."""
    if not line.startswith(_BEGINNING) or not line.endswith(b"\n"):
        return None
    start = len(_BEGINNING)
    end = line.find(b'"', start)
    try:
        if end >= 0 and b"\\" not in line[start:end]:  # nothing in it is escaped
            return line[start:end].decode()
        return _DECODER.raw_decode(line.decode("utf-8", "replace"), len(_BEGINNING) - 1)[0]
    except ValueError:
        return None


def _parse(line: bytes) -> FrameEntry | None:
    try:
        # Not `json.loads`, whose checks of its arguments take as long: there are millions of lines.
        values, _ = _DECODER.raw_decode(line.decode("utf-8", "replace"))
        return FrameEntry(
            values["key"],
            values["made"],
            tuple([None if stamp is None else tuple(stamp) for stamp in values["sources"]]),
            values.get("refused"),
            values.get("row"),
            {name: tuple(stamp) for name, stamp in values.get("written", {}).items()},
            tuple(values.get("notes", ())),
        )
    except (ValueError, StopIteration, KeyError, TypeError, AttributeError, RecursionError):
        return None  # torn, or damaged
