"""What `manifest` remembers between runs: what was made of which file, under which settings."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from distill3r_core.data.layouts import Frame
from distill3r_core.data.manifest_views import INDEX, Stamp
from distill3r_core.errors import ConflictError, RequestError
from distill3r_core.files import open_own, write_text
from distill3r_core.system.disk import disk_errors

_LOCK = ".lock"


@dataclass(frozen=True)
class FrameEntry:
    """What became of one frame.

    Args:
        sources: Stamps of its files when it was read; None where there was none.
        written: Stamps of what was written, by path in the manifest.
    """

    key: str
    made: str  # digest of all settings that decide what is made of it
    sources: tuple[tuple[int, int] | None, ...]
    refused: str | None = None
    row: Mapping[str, Any] | None = None  # cells of its manifest row, where it was written
    written: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def stands(self, folder: Path, made: str, sources: tuple[Any, ...]) -> bool:
        """Whether nothing has changed since: settings, source files and what was written."""
        if self.made != made or self.sources != sources:
            return False
        return all(stamp_of(folder / name) == stamp for name, stamp in self.written.items())


class FrameIndex:
    """Entries by key in a file that grows while a run works: a kill loses at most one line."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / INDEX
        self.entries: dict[str, FrameEntry] = {}
        self._file: IO[str] | None = None
        self._grew = False
        if self.path.is_file():
            text = self.path.read_text(encoding="utf-8", errors="replace")
            for line in text.split("\n"):  # splitlines() breaks names at U+2028, too
                if (entry := _parse(line)) is not None:
                    self.entries[entry.key] = entry

    def add(self, entry: FrameEntry) -> None:
        """Remember an entry now."""
        self.entries[entry.key], self._grew = entry, True
        with disk_errors(self.path):
            if self._file is None:
                self._file = os.fdopen(open_own(self.path), "r+", encoding="utf-8")
                self._file.seek(0, os.SEEK_END)
                self._file.write("\n")  # ends the torn last line of a run that was killed
            self._file.write(_line(entry) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with disk_errors(self.path):
                self._file.close()
            self._file = None

    def compact(self) -> None:
        """Write each key once, if anything was added."""
        self.close()
        if not self._grew:
            return
        lines = (_line(self.entries[key]) for key in sorted(self.entries))
        write_text(self.path, "".join(f"{line}\n" for line in lines))


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
    return tuple(stamp_of(path) for path in frame.files)


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, None where there is none."""
    try:
        stamp = Stamp.of(path)
    except OSError:
        return None
    return stamp.size, stamp.modified_ns


def _line(entry: FrameEntry) -> str:
    # Nothing that stayed empty: there is a line for every frame of every data set.
    values = {name: value for name, value in vars(entry).items() if value}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _parse(line: str) -> FrameEntry | None:
    try:
        values = json.loads(line)
        return FrameEntry(
            key=values["key"],
            made=values["made"],
            sources=tuple(None if stamp is None else tuple(stamp) for stamp in values["sources"]),
            refused=values.get("refused"),
            row=values.get("row"),
            written={name: tuple(stamp) for name, stamp in values.get("written", {}).items()},
            notes=tuple(values.get("notes", ())),
        )
    except (json.JSONDecodeError, KeyError, TypeError):
        return None  # torn
