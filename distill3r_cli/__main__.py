"""Entry point: `distill3r`, and `python -m distill3r_cli`."""

import os
import signal
import sys

_INTERRUPTED = 130  # `exits.INTERRUPTED`; that module is not imported yet


def main() -> None:
    """Run the command line and exit with its status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            # Silently: nothing has started, and a traceback would not help.
            signal.signal(number, lambda *_: os._exit(_INTERRUPTED))
    # Ctrl-C is handled from here on: the imports below take a third of a second.
    import atexit

    from distill3r_cli import console
    from distill3r_cli.limited import fork_under_limit
    from distill3r_cli.run import run
    from distill3r_cli.streams import make_streams_safe

    make_streams_safe()
    reports = fork_under_limit(sys.argv[1:])
    atexit.register(_ignore_signals)  # before torch registers its own, so that it runs last
    try:
        status = run(sys.argv[1:])
    except MemoryError:  # with --debug, or not even enough to report one
        if reports is None:
            raise
        reports.out_of_memory()  # the parent says why
        if console.is_debug():
            raise
        _flush()
        os._exit(1)
    except BaseException:
        if reports is not None:
            reports.done()
        raise
    if reports is not None:
        reports.done()
    if status == _INTERRUPTED:
        _flush()
        os._exit(status)  # do not wait for threads
    sys.exit(status)


def _flush() -> None:
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, MemoryError):  # full, or closed
            stream.flush()


def _ignore_signals() -> None:
    """Ignore signals during shutdown, where the interpreter restores the default handlers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
