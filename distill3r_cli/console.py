"""Output of the commands: results on stdout; progress, notes and errors on stderr.

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
from distill3r_cli.printed_lines import escape, print_line
from distill3r_cli.progress import LiveProgress, PlainProgress
from distill3r_core import errors
from distill3r_core.report import Progress, Silent, failure_lines, omission_lines
from distill3r_core.system.environment import check_environment
from distill3r_core.untrusted.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console

    from distill3r_core.report import Report

LIVE_REFRESH = 4  # updates of the live display per second
_LAUNCHED = "DISTILL3R_LAUNCHED"  # in the environment of the ranks that this program starts

# Commands that continue where they stopped when they are typed again.
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
    """Display options of the running command."""

    command: str = ""
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    no_color: bool = False
    json_printed: bool = False


_session = Session()


def begin(command: str, **display: bool) -> None:
    """Store the display options of a command that starts, and set up logging.

    Raises:
        ConfigError: A variable of the environment has a value that cannot be used.
    """
    global _session
    _session = Session(command=command, **display)
    warnings = check_environment()
    if is_rank_zero() and not _session.quiet:
        for warning in warnings:
            print_line(_stderr(), warning)
    level = logging.DEBUG if _session.verbose else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_PrintableFormatter("%(message)s"))
    for noisy in ("PIL", "urllib3", "httpx", "filelock", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _PrintableFormatter(logging.Formatter):
    """Escapes control characters, which names of files may contain."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def is_debug() -> bool:
    """Whether --debug was given."""
    return _session.debug


def show(report: "Report", *, passed: bool = True) -> None:
    """Print the report of a stage; failed items make the exit status 5.

    Args:
        report: Outcome of the stage.
        passed: Whether its goal was reached; if not, the status is 1 whatever else failed.

    Raises:
        typer.Exit: With status 1 if it did not pass, else with 5 if items failed.
        KeyboardInterrupt: One was swallowed while modules were imported.
    """
    interrupts.check()
    if is_rank_zero():
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


def can_ask() -> bool:
    """Whether a person is at the terminal of this process, which no launcher started."""
    return sys.stdin.isatty() and sys.stderr.isatty() and "TORCHELASTIC_RUN_ID" not in os.environ


def require_consent(question: str, *, kept: str) -> None:
    """Ask at the terminal before something is deleted.

    Raises:
        ConflictError: The answer is no.
    """
    if not typer.confirm(question, err=True):
        raise errors.ConflictError(f"{kept} is left as it was", hint="--yes deletes it unasked")


def show_error(error: BaseException, status: int) -> int:
    """Print an error with its hint; returns the exit status."""
    message = str(error)
    hint = error.hint if isinstance(error, errors.Distill3rError) else None
    if _session.as_json and is_rank_zero():
        with contextlib.suppress(OSError):  # stdout may be the full disk; stderr reports it
            _print_json(error={"message": message, "hint": hint, "kind": type(error).__name__})
    console = _stderr()
    print_line(console, message, label="[bold red]error:[/] ")
    if hint:
        console.print(f"[bold]hint:[/] {escape(hint)}", soft_wrap=True, highlight=False)
    return status


def show_interrupted(status: int, arguments: Sequence[str]) -> int:
    """Print that the command was interrupted and how to continue; returns the exit status."""
    hint = None  # `train` prints its own next command; other commands start again
    if _session.command in _RESUMED_AS_TYPED:
        hint = "the same command continues where it stopped"
    elif _session.command == "cache":
        hint = "the same command with --resume continues where it stopped"
    if hint and "--overwrite" in arguments:
        hint += "; leave --overwrite out"
    return show_error(errors.Distill3rError("interrupted", hint=hint), status)


def expect(arguments: list[str], command: str = "") -> None:
    """Prepare the display of errors in the command line itself, before it is parsed.

    Args:
        arguments: Arguments as typed.
        command: The command, where it is known.
    """
    _session.command = command
    _session.as_json = "--json" in arguments
    _session.json_printed = False
    _session.debug = "--debug" in arguments


@contextlib.contextmanager
def progress(device: str = "auto") -> Iterator[Progress]:
    """Progress display of the running command: live on a terminal, else lines; none with -q.

    Args:
        device: Device whose memory the panel shows.

    Raises:
        KeyboardInterrupt: One was swallowed while modules were imported.
    """
    interrupts.check()
    if _session.quiet or not is_rank_zero():
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
        live.stop()  # also after an interrupt during its start, which has hidden the cursor


def _print_report(report: "Report") -> None:
    out = _stdout()
    for table in (*report.tables, *(report.details if _session.verbose else ())):
        for number, part in enumerate(tables.split_table(table, out.width)):
            out.print(tables.as_rich_table(table, part, titled=number == 0))
    for path in report.files:
        out.print(escape(str(path)), soft_wrap=True, highlight=False)
    err = _stderr()
    if not _session.quiet:
        for note in (*omission_lines(report.omitted), *report.notes):
            print_line(err, note)
    for label, written in (("left out", False), ("failed", True)):
        for line in failure_lines([one for one in report.failed if one.written == written]):
            print_line(err, line, label=f"[bold yellow]{label}:[/] ")
    if report.summary:
        print_line(out, report.summary)


def _print_json(*, report: "Report | None" = None, error: dict[str, Any] | None = None) -> None:
    if _session.json_printed:  # one document for each command, also when it is interrupted later
        return
    _session.json_printed = True
    text = json.dumps(
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
    _write(printable_json(text))


def _machine(report: "Report | None") -> dict[str, Any] | None:
    """The machine of a result; torch's part, and that of an error, only where torch is loaded."""
    if report is None:
        loaded = sys.modules.get("distill3r_core.profiling")
        describe = getattr(loaded, "machine", None)  # missing after an interrupt while it loaded
        return None if describe is None else describe()
    if report.machine:
        return dict(report.machine)
    if "torch" not in sys.modules:
        from distill3r_core.system.machine_facts import machine_facts

        return machine_facts()
    from distill3r_core import profiling

    return profiling.machine()


def _write(text: str) -> None:
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output(sys.stdout)


def _discard_output(stream: IO[str]) -> None:
    """Drop further output after a broken pipe (`| head -1`), which is no failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stdout() -> "Console":
    # A pipe has no width: do not cut tables to 80 columns there.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
    return _console(stderr=False, width=width)


def _stderr() -> "Console":
    return _console(stderr=True, width=None)


def _console(*, stderr: bool, width: int | None) -> "Console":
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:  # the default exits with status 1
            _discard_output(sys.stderr if stderr else sys.stdout)

    return Piped(stderr=stderr, no_color=_session.no_color or None, width=width)


def is_rank_zero() -> bool:
    """Whether this process prints: rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def mark_launcher() -> None:
    """Record that this process starts the ranks, and reports their interruption itself."""
    os.environ[_LAUNCHED] = "1"


def reports_interrupts() -> bool:
    """Whether this process reports an interrupt, which reaches several processes."""
    return is_rank_zero() and not ("RANK" in os.environ and _LAUNCHED in os.environ)
