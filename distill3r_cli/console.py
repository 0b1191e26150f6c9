"""What a person or a script sees: results on stdout; progress, notes and errors on stderr.

Rich is imported where it is used, so that `--help` stays instant.
"""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from distill3r_cli import exits, interrupts
from distill3r_core import errors
from distill3r_core.report import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from distill3r_core.report import Report

PLAIN_INTERVAL = 5.0  # seconds between two lines of progress where there is no terminal
LIVE_REFRESH = 4  # pictures a second of the live display

# Commands that keep what they have done and go on with the rest.
_RESUMED_AS_TYPED = frozenset(
    {
        "manifest",
        "cache merge",
        "cache export",
        "cache import",
        "models download",
        "bench ablation",
        "demo",
    }
)


@dataclass
class Session:
    """How the running command shows things."""

    command: str = ""
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False


_session = Session()


def begin(command: str, **display: bool) -> None:
    """A command starts: remember how it is to show things and set up logging."""
    global _session
    _session = Session(command=command, **display)
    level = logging.DEBUG if _session.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("PIL", "urllib3", "httpx", "filelock", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def is_debug() -> bool:
    """Whether tracebacks were asked for."""
    return _session.debug


def show(report: "Report", *, passed: bool = True) -> None:
    """Print a stage's outcome; items that failed make the exit status 5.

    Args:
        report: What the stage did.
        passed: Whether it reached what it was to show; if not, that outweighs items.

    Raises:
        typer.Exit: With status 1 where it did not pass, else with 5 where items failed.
        KeyboardInterrupt: One was swallowed while modules were imported.
    """
    interrupts.check()
    if is_leader():
        if _session.as_json:
            _print_json(report=report)
        else:
            _print_report(report)
    if not passed:
        raise typer.Exit(exits.FAILED)
    if report.failed:
        raise typer.Exit(exits.PARTIAL)


def show_config(text: str, plain: dict[str, Any]) -> None:
    """Print settings as YAML, or as JSON."""
    if _session.as_json:
        _write(json.dumps(plain, indent=2))
    else:
        _write(text.rstrip())


def show_error(error: BaseException, status: int) -> int:
    """Print what went wrong and the way out; gives the exit status back."""
    message = str(error)
    hint = error.hint if isinstance(error, errors.Distill3rError) else None
    if _session.as_json and is_leader():
        with contextlib.suppress(OSError):  # stdout may be what is full; stderr tells it
            _print_json(error={"message": message, "hint": hint, "kind": type(error).__name__})
    console = _stderr()
    console.print(f"[bold red]error:[/] {_escape(message)}", soft_wrap=True, highlight=False)
    if hint:
        console.print(f"[bold]hint:[/] {_escape(hint)}", soft_wrap=True, highlight=False)
    return status


def show_interrupted(status: int, arguments: Sequence[str]) -> int:
    """Print that somebody stopped the command, and how to go on; gives the exit status back."""
    hint = None  # `train` has said what its next command is; others start anew
    if _session.command in _RESUMED_AS_TYPED:
        hint = "the same command goes on where it was"
    elif _session.command == "cache":
        hint = "the same command with --resume goes on where it was"
    if hint and "--overwrite" in arguments:
        hint += "; leave --overwrite out"
    return show_error(errors.Distill3rError("interrupted", hint=hint), status)


def expect(arguments: list[str], command: str = "") -> None:
    """Before parsing: know how an error in the command line itself is to be shown.

    Args:
        arguments: As they were typed.
        command: Whose line it is, where that is known.
    """
    _session.command = command
    _session.as_json = "--json" in arguments
    _session.debug = "--debug" in arguments


@contextlib.contextmanager
def progress(device: str = "auto") -> Iterator["PlainProgress | LiveProgress | NoteOnly"]:
    """Progress of the running command: live on a terminal, plain lines elsewhere, none with -q.

    Args:
        device: Whose memory the panel shows.

    Raises:
        KeyboardInterrupt: One was swallowed while modules were imported.
    """
    interrupts.check()
    if _session.quiet or not is_leader():
        yield NoteOnly(silent=True)
        return
    console = _stderr()
    if not console.is_terminal:
        plain = PlainProgress(console)
        try:
            yield plain
        finally:
            plain.finish()
        return
    from rich.live import Live

    shown = LiveProgress(console, device)
    with Live(shown, console=console, refresh_per_second=LIVE_REFRESH, transient=False):
        yield shown


@dataclass
class NoteOnly:
    """Progress that is not drawn."""

    silent: bool = False

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """Nothing is drawn."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Nothing is drawn."""

    def note(self, text: str) -> None:
        """Say it, unless silent."""
        if not self.silent:
            _stderr().print(_escape(text), soft_wrap=True, highlight=False)


@dataclass
class PlainProgress:
    """A line every few seconds, for logs and pipes."""

    console: "Console"
    _label: str = ""
    _unit: str = ""
    _total: int | None = None
    _done: int = 0
    _before: int = 0
    _said: int = -1
    _last: float = 0.0
    _start: float = 0.0
    _figures: dict[str, float | str] = field(default_factory=dict)

    def begin(self, label: str, *, total: int | None, unit: str, done: int = 0) -> None:
        """A phase starts."""
        self.finish()
        self._label, self._total, self._unit = label, total, unit
        self._done = self._before = done
        self._said, self._figures = -1, {}
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Steps are done."""
        self._done += steps
        self._figures |= figures
        if time.monotonic() - self._last >= PLAIN_INTERVAL:
            self._print()

    def note(self, text: str) -> None:
        """Something to read now, after the end of a phase that is over."""
        if self._done == self._total:
            self.finish()
        self.console.print(_escape(text), soft_wrap=True, highlight=False)

    def finish(self) -> None:
        """The phase is over: say where it ended."""
        if self._label and self._said != self._done:
            self._print()
        self._label = ""

    def _print(self) -> None:
        self._last, self._said = time.monotonic(), self._done
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        made = self._done - self._before
        rate = made / max(time.monotonic() - self._start, 1e-9)
        parts = [f"{self._label} {count} {self._unit}", f"{rate:.3g} {self._unit}/s"]
        figures = self._figures.items()
        parts += [f"{name.replace('_', ' ')} {_figure(value)}" for name, value in figures]
        if self._total is not None and made > 0 and self._done < self._total:
            parts.append(f"{duration(round((self._total - self._done) / rate))} left")
        self.console.print(_escape(" · ".join(parts)), soft_wrap=True, highlight=False)


class LiveProgress:
    """Bars of the phases, the figures of the one that runs, and a panel of memory."""

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
        """A phase starts."""
        if self._task is not None:
            self._bars.stop_task(self._task)
        self._unit, self._figures = unit, {}
        self._task = self._bars.add_task(_escape(label), total=total, completed=done, rate="")

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Steps are done."""
        self._figures |= figures
        speed = self._bars.tasks[-1].speed if self._bars.tasks else None
        rate = f"{speed:.3g} {self._unit}/s" if speed else ""
        self._bars.update(self._task, advance=steps, rate=rate)

    def note(self, text: str) -> None:
        """Something to read now, above the bars."""
        self.console.print(_escape(text), soft_wrap=True, highlight=False)

    def __rich__(self) -> "RenderableType":
        from rich.columns import Columns
        from rich.console import Group
        from rich.panel import Panel
        from rich.table import Table

        panels = [Panel(_memory_text(self.device), title="memory", expand=False)]
        if self._figures:
            grid = Table.grid(padding=(0, 2))
            for name, value in self._figures.items():
                grid.add_row(_escape(name.replace("_", " ")), _escape(_figure(value)))
            panels.insert(0, Panel(grid, expand=False))
        return Group(self._bars, Columns(panels))


def _memory_text(device: str) -> str:
    from distill3r_core import profiling

    use = profiling.memory_use(profiling.pick_device(device))
    gib = 1024**3
    if use.allocated is None:
        return f"process {use.rss / gib:.2f} GiB"
    assert use.reserved is not None and use.free is not None
    return (
        f"GPU allocated {use.allocated / gib:.2f} · reserved {use.reserved / gib:.2f} · "
        f"free {use.free / gib:.2f} GiB\nprocess {use.rss / gib:.2f} GiB"
    )


def _print_report(report: "Report") -> None:
    from rich.table import Table

    out = _stdout()
    for table in report.tables:
        drawn = Table(
            title=_escape(table.title) or None,
            title_justify="left",
            show_header=any(table.columns),
        )
        for index, column in enumerate(table.columns):
            left = index == 0 or table.prose
            drawn.add_column(_escape(column), justify="left" if left else "right", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(_escape(cell) for cell in row))
        out.print(drawn)
    for path in report.files:
        out.print(_escape(str(path)), soft_wrap=True, highlight=False)
    err = _stderr()
    if not _session.quiet:
        for note in report.notes:
            err.print(_escape(note), soft_wrap=True, highlight=False)
    for failure in report.failed:
        text = f"[bold yellow]left out:[/] {_escape(failure.item)}: {_escape(failure.reason)}"
        err.print(text, soft_wrap=True, highlight=False)
    if report.summary:
        out.print(_escape(report.summary), soft_wrap=True, highlight=False)


def _print_json(*, report: "Report | None" = None, error: dict[str, Any] | None = None) -> None:
    from distill3r_core import profiling

    machine = report.machine if report else None
    _write(
        json.dumps(
            {
                "command": _session.command,
                "version": profiling.tool_version(),
                "settings": dict(report.settings) if report else None,
                "machine": dict(machine or profiling.machine()),
                "result": dict(report.result) if report else None,
                "files": [str(path) for path in report.files] if report else [],
                "failed": [{"item": f.item, "reason": f.reason} for f in report.failed]
                if report
                else [],
                "error": error,
            },
            indent=2,
            ensure_ascii=False,
            allow_nan=False,
        )
    )


def _write(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _write_to_nobody()


def _write_to_nobody() -> None:
    """A reader that has seen enough (`| head -1`) does not make the work a failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stdout() -> "Console":
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:  # Rich's own would exit with 1
            _write_to_nobody()

    # A pipe has no width: tables must not be cut to 80 columns there.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
    return Piped(no_color=_session.no_color or None, width=width)


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True, no_color=_session.no_color or None)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def is_leader() -> bool:
    """Whether this process is the one that talks: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
