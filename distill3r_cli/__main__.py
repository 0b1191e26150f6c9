"""Entry point: `distill3r`, and `python -m distill3r_cli`."""

import os
import signal
import sys

_INTERRUPTED = 130  # as `exits` has it, which is not there yet


def main() -> None:
    """Run the command line and leave with the status of the contract."""
    _leave_when_interrupted()
    from distill3r_cli.run import mend_streams, run  # a third of a second: Ctrl-C may come

    mend_streams()
    status = run(sys.argv[1:])
    _leave_when_interrupted()  # torch takes its time to go
    sys.exit(status)


def _leave_when_interrupted() -> None:
    """End without a word: nothing is at work, and an exception would only show where it fell."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(_INTERRUPTED))


if __name__ == "__main__":
    main()
