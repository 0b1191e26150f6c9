"""Run one command line: report its errors and return its exit status."""

import resource
import sys
import traceback
from pathlib import Path
from typing import cast

import typer

from distill3r_cli import console, exits, interrupts, options
from distill3r_cli.app import app
from distill3r_core import errors, problems
from distill3r_core.system import disk, system_limits

# typer does not export the class itself
_UsageError: type[Exception] = cast(type[Exception], typer.BadParameter.__mro__[1])


@interrupts.handlers_restored()
def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    console.expect(arguments)
    try:
        with interrupts.raised_as_exceptions():
            status = app(arguments, prog_name="distill3r", standalone_mode=False)
    except errors.Distill3rError as error:
        if console.is_debug():
            traceback.print_exc()
        return console.show_error(error, exits.status_of(error))
    except _UsageError as error:
        return _show_usage(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        status = exits.INTERRUPTED
    except Exception as error:  # anything unforeseen: a traceback only with --debug
        if console.is_debug():
            raise
        shown = _as_error(error)
        return console.show_error(shown, exits.status_of(shown))
    if status == exits.INTERRUPTED and console.reports_interrupts():
        console.show_interrupted(status, arguments)
    return status if isinstance(status, int) else exits.OK


def _as_error(error: Exception) -> errors.Distill3rError:
    if isinstance(error, OSError):
        path = Path(error.filename or "the output")
        refused = disk.refusal(path, error.errno) or system_limits.limit_error(path, error.errno)
        if refused is not None:
            return refused
    if isinstance(error, OSError) and error.filename is not None:
        # When a rename fails, the second file name is the one that the user knows.
        name = error.filename2 or error.filename
        return errors.RequestError(f"cannot use {name}: {error.strerror}")
    if (refused := system_limits.no_thread(error)) is not None:
        return refused
    if _is_out_of_memory(error):
        hint = "use fewer or smaller views, smaller batches, or fewer workers"
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            hint = (
                f"raise the limit of address space, which is {limit // 1024} kB "
                "(`ulimit -v unlimited`): to load torch alone takes some 4 GB of it"
            )
        reason = str(error).splitlines()[0] if str(error) else "no memory left"
        return errors.OutOfMemoryError(f"out of memory: {reason}", hint=hint)
    return errors.FailedError(
        f"{type(error).__name__}: {error}\nThis is a bug in distill3r.",
        hint="run again with --debug and report the traceback",
    )


def _is_out_of_memory(error: Exception) -> bool:
    # Without this module torch has not been used.
    loaded = sys.modules.get("distill3r_core.profiling")
    check = getattr(loaded, "is_out_of_memory", None)
    if isinstance(error, ImportError) and system_limits.no_room_to_load(error):
        return True
    return isinstance(error, MemoryError) if check is None else check(error)


def _show_usage(error: Exception, arguments: list[str]) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
        return exits.REQUEST
    path = context.command_path if context is not None else "distill3r"
    # `--json` may come after the word that could not be parsed.
    console.expect(arguments, command=path.partition(" ")[2])
    details, parameter = getattr(error.__cause__, "errors", None), getattr(error, "param", None)
    if details is None or parameter is None:
        message = getattr(error, "format_message", error.__str__)()
    else:  # a value is described as in settings files
        message = f"{options.flag_name(parameter)}: {problems.describe_fault(details()[0])}"
    return console.show_error(errors.RequestError(message, hint=f"{path} --help"), exits.REQUEST)
