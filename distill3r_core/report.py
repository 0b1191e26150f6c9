"""Progress and outcome of a stage as data: the core prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from distill3r_core.untrusted.printable import printable_name

_NAMED_FAILURES = 8  # of one reason, that are named one by one
_IRREGULAR = {"are": "is", "have": "has", "were": "was"}


@dataclass(frozen=True)
class Failure:
    """An item that was left out or does not pass, with the reason. It makes the exit status 5.

    Args:
        written: Whether its files were written all the same: it is a result, but not one that
            the user accepts.
    """

    item: str
    reason: str
    written: bool = False


@dataclass(frozen=True)
class Omission:
    """An item that was left out because of what it is. The exit status stays as it is."""

    item: str
    reason: str


@dataclass(frozen=True)
class Table:
    """A table for people to read; scripts read `Report.result`.

    Args:
        title: Title; may be empty.
        columns: Headings; if all are empty, none is shown.
        rows: Text of every cell.
        prose: Cells hold words and are left-aligned; else all but the first column hold numbers.
        keys: Number of leading columns that identify a row.
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
        result: Numbers and names for scripts, as plain data with stable keys.
        files: Files that were written, the most useful first.
        failed: Items that were left out while the rest succeeded.
        omitted: Items that were left out because of what they are.
        tables: Tables for stdout.
        details: Tables that are shown with `-v` alone.
        notes: Short lines after the tables (assumptions, next commands).
        summary: Last line; empty where the tables suffice.
        finished_before: The result existed already and nothing was done.
        machine: Description of the device, where the result depends on it.
    """

    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    files: Sequence[Path] = ()
    failed: Sequence[Failure] = ()
    omitted: Sequence[Omission] = ()
    tables: Sequence[Table] = ()
    details: Sequence[Table] = ()
    notes: Sequence[str] = ()
    summary: str = ""
    finished_before: bool = False
    machine: Mapping[str, Any] | None = None


@runtime_checkable  # tests check types at run time, also of records that hold one
class Progress(Protocol):
    """Receiver of a stage's progress. The command line draws it; `Silent` is the default."""

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Start a phase and end the one before it.

        Args:
            label: Name of the phase.
            total: Its length in units; None: unknown.
            unit: Name of the unit that is counted.
            done: Units finished by an earlier run; they do not count towards the speed.
        """
        ...

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Count `steps` more units; `figures` (loss, MB written, ...) replace those shown."""
        ...

    def note(self, text: str) -> None:
        """Show a line now: a warning, or a decision that was made."""
        ...


@dataclass
class Silent:
    """Progress that shows nothing and keeps the notes."""

    notes: list[str] = field(default_factory=list)

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Ignore the phase."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Ignore the step."""

    def note(self, text: str) -> None:
        """Keep the note."""
        self.notes.append(text)


def omission_lines(omitted: Sequence[Omission]) -> list[str]:
    """One line for each reason: how many items, why, and the first of them."""
    return [
        f"not read: {items[0]}: {reason}"
        if len(items) == 1
        else f"not read: {len(items)} files: {reason} (first: {items[0]})"
        for reason, items in _by_reason(omitted).items()
    ]


def failure_lines(failed: Sequence[Failure]) -> list[str]:
    """A line for each item and its reason; one line where a reason has more than a few items."""
    lines = []
    for reason, items in _by_reason(failed).items():
        if len(items) <= _NAMED_FAILURES:
            lines += [f"{item}: {reason}" for item in items]
        else:
            lines.append(f"{len(items)} items: {reason} (first: {items[0]})")
    return lines


def _by_reason(items: Sequence[Failure | Omission]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items:
        found.setdefault(item.reason, []).append(printable_name(item.item))
    return found


def counted(count: int, noun: str, verb: str = "", *, of: int | None = None) -> str:
    """A number with its noun and verb: `1 image`, `2 images are`, `1 of 2 images has`.

    Args:
        noun: In the singular; the plural takes an s.
        verb: In the plural: `are`, `have`, `were`, or one whose singular takes an s.
        of: How many there are in all.
    """
    total = count if of is None else of
    number = f"{count}" if of is None else f"{count} of {of}"
    words = [number, noun if total == 1 else f"{noun}s"]
    if verb:
        words.append(_IRREGULAR.get(verb, f"{verb}s") if 1 in (count, total) else verb)
    return " ".join(words)


def gigabytes(count: float | int) -> str:
    """Bytes in a unit that a person reads."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def duration(seconds: float | int) -> str:
    """A duration in the unit that suits its length."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    if seconds < 6000:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 360_000 else f"{seconds / 86400:.3g} days"
