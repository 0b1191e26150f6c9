"""Entry point: `distill3r`, and `python -m distill3r_cli`."""

import os
import signal
import sys

_INTERRUPTED = 130  # as `exits` has it, which is not there yet


def main() -> None:
    """Run the command line and leave with the status of the contract."""
    _leave_when_interrupted()
    # From here on Ctrl-C may come: the rest takes a third of a second.
    import atexit
    from contextlib import suppress

    from distill3r_cli.run import mend_streams, run

    atexit.register(_ignore_signals)  # before torch's, so that it is called after them
    mend_streams()
    status = run(sys.argv[1:])  # afterwards torch takes its time to go
    if status == _INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # full, or closed
                stream.flush()
        os._exit(status)  # threads that somebody did not wait for are not waited for
    sys.exit(status)


def _leave_when_interrupted() -> None:
    """End without a word: nothing is at work, and an exception would only show where it fell."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(_INTERRUPTED))


def _ignore_signals() -> None:
    """All is said and done: the interpreter would give them back their deadly meaning."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
