"""Progress displays: lines for logs and pipes, bars and a memory panel on a terminal.

Rich is imported where it is used, so that `--help` stays instant.
"""

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distill3r_cli.printed_lines import escape, print_line
from distill3r_core.report import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_INTERVAL = 5.0  # seconds between two lines of progress


@dataclass
class PlainProgress:
    """A line every few seconds, for logs and pipes."""

    console: "Console"
    _label: str = ""
    _unit: str = ""
    _total: int | None = None
    _done: int = 0
    _before: int = 0
    _printed: int = -1
    _last: float = 0.0
    _start: float = 0.0
    _figures: dict[str, float | str] = field(default_factory=dict)

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Start a phase."""
        self.finish()
        self._label, self._total, self._unit = label, total, unit
        self._done = self._before = done
        self._printed, self._figures = -1, {}
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Count steps."""
        self._done += steps
        self._figures |= figures
        if time.monotonic() - self._last >= PLAIN_INTERVAL:
            self._print()

    def note(self, text: str) -> None:
        """Print a note, after the last line of a finished phase."""
        if self._done == self._total:
            self.finish()
        print_line(self.console, text)

    def finish(self) -> None:
        """End the phase and print its last line."""
        if self._label and self._printed != self._done:
            self._print()
        self._label = ""

    def _print(self) -> None:
        self._last, self._printed = time.monotonic(), self._done
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        made = self._done - self._before
        rate = made / max(time.monotonic() - self._start, 1e-9)
        parts = [f"{self._label} {count} {self._unit}", f"{rate:.3g} {self._unit}/s"]
        figures = self._figures.items()
        parts += [f"{name.replace('_', ' ')} {_figure(value)}" for name, value in figures]
        if self._total is not None and made > 0 and self._done < self._total:
            parts.append(f"{duration(round((self._total - self._done) / rate))} left")
        self.console.print(escape(" · ".join(parts)), soft_wrap=True, highlight=False)


class LiveProgress:
    """Bars of all phases, figures of the current one, and a memory panel."""

    def __init__(self, console: "Console", device: str) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console, self.device = console, device
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: Any = None
        self._unit = ""
        self._figures: dict[str, float | str] = {}

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Start a phase."""
        if self._task is not None:
            self._bars.stop_task(self._task)
        self._unit, self._figures = unit, {}
        self._task = self._bars.add_task(escape(label), total=total, completed=done, rate="")

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Count steps."""
        self._figures |= figures
        speed = self._bars.tasks[-1].speed if self._bars.tasks else None
        rate = f"{speed:.3g} {self._unit}/s" if speed else ""
        self._bars.update(self._task, advance=steps, rate=rate)

    def note(self, text: str) -> None:
        """Print a note above the bars."""
        print_line(self.console, text)

    def __rich__(self) -> "RenderableType":
        from rich.columns import Columns
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table

        if self._task is None:  # a command that stops before its first phase
            return Group()
        panels = [Panel(_memory_text(self.device), title="memory", expand=False)]
        if self._figures:
            grid = Table.grid(padding=(0, 2))
            for name, value in self._figures.items():
                grid.add_row(escape(name.replace("_", " ")), escape(_figure(value)))
            panels.insert(0, Panel(grid, expand=False))
        return Group(self._bars, Columns(panels))


def _memory_text(device: str) -> str:
    gib = 1024**3
    if "torch" not in sys.modules:  # which takes seconds and half a gigabyte to load
        import psutil

        return f"process {psutil.Process().memory_info().rss / gib:.2f} GiB"
    from distill3r_core import profiling

    use = profiling.memory_use(profiling.pick_device(device))
    if use.allocated is None:
        return f"process {use.rss / gib:.2f} GiB"
    assert use.reserved is not None and use.free is not None
    return (
        f"GPU allocated {use.allocated / gib:.2f} · reserved {use.reserved / gib:.2f} · "
        f"free {use.free / gib:.2f} GiB\nprocess {use.rss / gib:.2f} GiB"
    )


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
