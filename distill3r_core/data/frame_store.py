"""Frames of more scenes than memory should hold, in a temporary file."""

import operator
import os
import pickle
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from distill3r_core.data.layouts.records import DepthFile, Frame
from distill3r_core.errors import DiskFullError
from distill3r_core.untrusted.printable import reason_of

IN_MEMORY = 250_000  # files that frames in memory name: some 130 MB
_MATRIX = 3  # files that take as much memory as a pose and a K of a frame's own


class FrameStore:
    """Keeps the frames of scenes: the first ones in memory, all others in a temporary file.

    Args:
        in_memory: How many files the frames that stay in memory may name.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._room = in_memory
        self._file: Any = None
        self._last: tuple[int, tuple[Frame, ...]] = (-1, ())
        self._lock = threading.Lock()

    def keep(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """The same frames, in memory or read from the file each time that they are asked for.

        Raises:
            DiskFullError: They cannot be written to a temporary file.
        """
        if isinstance(frames, _StoredFrames) or not frames:
            return frames
        inline = isinstance(frames[0].pose, np.ndarray)
        weight = len(frames) * (len(frames[0].files) + _MATRIX * inline)
        if weight <= self._room:
            self._room -= weight
            return tuple(frames)
        try:
            with self._lock:
                if self._file is None:
                    self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the store
                    weakref.finalize(self, self._file.close)
                start = self._file.seek(0, os.SEEK_END)
                _FramePickler(self._file, pickle.HIGHEST_PROTOCOL).dump(tuple(frames))
                self._file.flush()
        except OSError as error:
            raise DiskFullError(
                f"the list of frames does not fit into a temporary file: {reason_of(error)}",
                hint="free some space, or set TMPDIR to a folder that has some",
            ) from error
        return _StoredFrames(self, start, len(frames))

    def read(self, start: int) -> tuple[Frame, ...]:
        """The frames at a place of the file; those that were read last are remembered."""
        with self._lock:
            if self._last[0] != start:
                self._file.seek(start)
                self._last = start, pickle.load(self._file)
            return self._last[1]


class _StoredFrames(Sequence[Frame]):
    """Frames in the file of a store."""

    def __init__(self, store: FrameStore, start: int, count: int) -> None:
        self._store, self._start, self._count = store, start, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Frame, ...]: ...

    def __getitem__(self, index: int | slice) -> Frame | tuple[Frame, ...]:
        return self._store.read(self._start)[index]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._store.read(self._start))


class _Folder:
    """A folder that many paths share: pickled once, as what they are joined to."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path, (self._path,)


class _FramePickler(pickle.Pickler):
    """Writes frames in half of the time and bytes: positional fields, paths by their folders."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._folders: dict[str, _Folder] = {}

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is Frame or kind is DepthFile:
            return kind, tuple(vars(value).values())
        if isinstance(value, Path):
            parent, slash, name = str(value).rpartition("/")
            if parent:
                folder = self._folders.setdefault(parent, _Folder(parent))
                return operator.truediv, (folder, name)
            return Path, (slash + name,)
        return NotImplemented
