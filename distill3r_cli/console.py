"""What a person or a script sees: results on stdout; progress, notes and errors on stderr.

Rich is imported where it is used, so that `--help` stays instant.
"""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import IO, TYPE_CHECKING, Any

import typer

from distill3r_cli import exits, interrupts, tables
from distill3r_cli.progress import LiveProgress, PlainProgress, escape
from distill3r_core import errors
from distill3r_core.report import Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console

    from distill3r_core.report import Report

LIVE_REFRESH = 4  # pictures a second of the live display
_LAUNCHED = "DISTILL3R_LAUNCHED"  # in the environment of ranks that this program has started

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
    told: bool = False  # the one document of --json


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
    console.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    if hint:
        console.print(f"[bold]hint:[/] {escape(hint)}", soft_wrap=True, highlight=False)
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
    _session.told = False
    _session.debug = "--debug" in arguments


@contextlib.contextmanager
def progress(device: str = "auto") -> Iterator[Progress]:
    """Progress of the running command: live on a terminal, plain lines elsewhere, none with -q.

    Args:
        device: Whose memory the panel shows.

    Raises:
        KeyboardInterrupt: One was swallowed while modules were imported.
    """
    interrupts.check()
    if _session.quiet or not is_leader():
        yield Silent()
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
    live = Live(shown, console=console, refresh_per_second=LIVE_REFRESH, transient=False)
    try:
        with live:
            yield shown
    finally:
        live.stop()  # also what an interrupt met while it started: the cursor is hidden by then


def _print_report(report: "Report") -> None:
    out = _stdout()
    for table in report.tables:
        for number, part in enumerate(tables.parts_of(table, out.width)):
            out.print(tables.drawn(table, part, titled=number == 0))
    for path in report.files:
        out.print(escape(str(path)), soft_wrap=True, highlight=False)
    err = _stderr()
    if not _session.quiet:
        for note in report.notes:
            err.print(escape(note), soft_wrap=True, highlight=False)
    for failure in report.failed:
        text = f"[bold yellow]left out:[/] {escape(failure.item)}: {escape(failure.reason)}"
        err.print(text, soft_wrap=True, highlight=False)
    if report.summary:
        out.print(escape(report.summary), soft_wrap=True, highlight=False)


def _print_json(*, report: "Report | None" = None, error: dict[str, Any] | None = None) -> None:
    if _session.told:  # one command, one document: a viewer that is ended has said all
        return
    _session.told = True
    _write(
        json.dumps(
            {
                "command": _session.command,
                "version": metadata.version("distill3r"),
                "settings": dict(report.settings) if report else None,
                "machine": _machine(report),
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


def _machine(report: "Report | None") -> dict[str, Any] | None:
    """What a result holds for; of an error the machine, where torch, which knows it, is loaded."""
    if report is None:
        loaded = sys.modules.get("distill3r_core.profiling")
        look = getattr(loaded, "machine", None)  # an interrupt may have come while it was loading
        return None if look is None else look()
    from distill3r_core import profiling

    return dict(report.machine or profiling.machine())


def _write(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _write_to_nobody(sys.stdout)


def _write_to_nobody(stream: IO[str]) -> None:
    """A reader that has seen enough (`| head -1`) does not make the work a failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stdout() -> "Console":
    # A pipe has no width: tables must not be cut to 80 columns there.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
    return _console(stderr=False, width=width)


def _stderr() -> "Console":
    return _console(stderr=True, width=None)


def _console(*, stderr: bool, width: int | None) -> "Console":
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:  # Rich's own would exit with 1
            _write_to_nobody(sys.stderr if stderr else sys.stdout)

    return Piped(stderr=stderr, no_color=_session.no_color or None, width=width)


def is_leader() -> bool:
    """Whether this process is the one that talks: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def expect_ranks() -> None:
    """This process is about to start ranks of its own command: it will say if they are stopped."""
    os.environ[_LAUNCHED] = "1"


def tells_of_interrupts() -> bool:
    """Whether this process says that somebody stopped the command; a signal reaches several."""
    return is_leader() and not ("RANK" in os.environ and _LAUNCHED in os.environ)
