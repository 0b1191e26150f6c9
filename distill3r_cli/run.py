"""One command line: run it, say what went wrong, and give its exit status."""

import io
import re
import sys
import traceback
from pathlib import Path
from typing import cast

import typer

from distill3r_cli import console, exits, interrupts, options
from distill3r_cli.app import app
from distill3r_core import disk, errors, problems

_NO_ROOM = re.compile("failed to map segment|[Cc]annot allocate memory")
# typer does not export the class itself
_UsageError: type[Exception] = cast(type[Exception], typer.BadParameter.__mro__[1])


def run(arguments: list[str]) -> int:
    """Run one command line; gives its exit status."""
    with interrupts.given_back():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    console.expect(arguments)
    try:
        with interrupts.as_exceptions():
            status = app(arguments, prog_name="distill3r", standalone_mode=False)
    except errors.Distill3rError as error:
        if console.is_debug():
            traceback.print_exc()
        return console.show_error(error, exits.status_of(error))
    except _UsageError as error:
        return _show_usage(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        status = exits.INTERRUPTED
    except Exception as error:  # the last line of defence: no traceback unasked
        if console.is_debug():
            raise
        shown = _in_words(error)
        return console.show_error(shown, exits.status_of(shown))
    if status == exits.INTERRUPTED and console.tells_of_interrupts():
        console.show_interrupted(status, arguments)
    return status if isinstance(status, int) else exits.OK


def mend_streams() -> None:
    """A stream that was closed swallows what is written; one without ü writes it escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _in_words(error: Exception) -> errors.Distill3rError:
    if isinstance(error, OSError):
        refused = disk.refusal(Path(error.filename or "the output"), error.errno)
        if refused is not None:
            return refused
    if isinstance(error, OSError) and error.filename is not None:
        # Of a rename that fails, the second is the name that the user knows.
        name = error.filename2 or error.filename
        return errors.RequestError(f"cannot use {name}: {error.strerror}")
    if _is_out_of_memory(error):
        return errors.OutOfMemoryError(
            f"out of memory: {str(error).splitlines()[0] if str(error) else 'no more is given'}",
            hint="less at once: fewer or smaller views, smaller batches, fewer workers",
        )
    return errors.FailedError(
        f"{type(error).__name__}: {error}\nThis is a fault in distill3r.",
        hint="run again with --debug and report the traceback",
    )


def _is_out_of_memory(error: Exception) -> bool:
    loaded = sys.modules.get("distill3r_core.profiling")  # without it torch has not run
    look = getattr(loaded, "is_out_of_memory", None)
    if isinstance(error, ImportError) and _NO_ROOM.search(str(error)):  # for a library
        return True
    return isinstance(error, MemoryError) if look is None else look(error)


def _show_usage(error: Exception, arguments: list[str]) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
        return exits.REQUEST
    path = context.command_path if context is not None else "distill3r"
    # `--json` may stand behind what could not be read.
    console.expect(arguments, command=path.partition(" ")[2])
    return console.show_error(
        errors.RequestError(_usage_message(error), hint=f"{path} --help"), exits.REQUEST
    )


def _usage_message(error: Exception) -> str:
    """What was wrong with the line; of a value in the words that settings have."""
    details, parameter = getattr(error.__cause__, "errors", None), getattr(error, "param", None)
    if details is None or parameter is None:
        return getattr(error, "format_message", error.__str__)()
    return f"{options.word(parameter)}: {problems.fault_of(details()[0])}"
