"""What a stage tells while it works and when it is done, as data: the core prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Failure:
    """One item that was left out: named, with the reason. It makes the exit status 5."""

    item: str
    reason: str


@dataclass(frozen=True)
class Table:
    """Rows of finished text under headings, for people; scripts read `Report.result`.

    Args:
        title: Above it; may be empty.
        columns: Headings; all of them empty: none are shown.
        rows: Text for every column.
        prose: Cells are words, set to the left; else all but the first are numbers.
        keys: How many of the first columns say what a row is about.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    prose: bool = False
    keys: int = 1


@dataclass(frozen=True)
class Report:
    """The outcome of a stage.

    Args:
        settings: The resolved settings, as plain data.
        result: Numbers and names for scripts, as plain data; stable keys.
        files: What was written, the most useful first.
        failed: Items that were left out, while the rest went well.
        tables: What a person reads on stdout.
        notes: Short lines that are worth saying after the tables (what was assumed, what is next).
        summary: One last line that says it all; empty where the tables do.
        finished_before: True where the result was already there and nothing was done.
        machine: What the result holds for, where it matters which device that was.
    """

    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    files: Sequence[Path] = ()
    failed: Sequence[Failure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    summary: str = ""
    finished_before: bool = False
    machine: Mapping[str, Any] | None = None


@runtime_checkable  # shapes under test are checked, records with a progress in them too
class Progress(Protocol):
    """Where a stage reports to. The command line draws it; from Python, `Silent` is the default."""

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """A phase starts; the one before it is over.

        Args:
            label: Its name.
            total: Its length in units; None: unknown.
            unit: What is counted.
            done: Units that were done in an earlier run, and say nothing of this one's speed.
        """
        ...

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """`steps` more units are done; `figures` (loss, MB written, ...) replace those shown."""
        ...

    def note(self, text: str) -> None:
        """Something that a person should read now: a warning, a decision that was taken."""
        ...


@dataclass
class Silent:
    """Progress for callers who want none; keeps the notes, which a test may read."""

    notes: list[str] = field(default_factory=list)

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Ignore the phase."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Ignore the step."""

    def note(self, text: str) -> None:
        """Keep the note."""
        self.notes.append(text)


def duration(seconds: float | int) -> str:
    """Seconds in units that a person reads."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 6000:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 360_000 else f"{seconds / 86400:.3g} days"
