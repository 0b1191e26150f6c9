"""Ctrl-C and SIGTERM while a command runs."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _InterruptFlag:
    """Whether a signal has arrived."""

    arrived: bool = False


_interrupt = _InterruptFlag()


@contextmanager
def raised_as_exceptions() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM as on Ctrl-C; ignore both after the block.

    Raises:
        KeyboardInterrupt: Also where a library turned it into another error during its import.
    """
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a job started with & ignores it
        signal.signal(signal.SIGINT, _raise)
    report = sys.unraisablehook
    sys.unraisablehook = partial(_report_unless_interrupt, report)
    try:
        yield
    except Exception as error:
        if _interrupt.arrived:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number in _SIGNALS:
            if signal.getsignal(number) == _raise:
                signal.signal(number, _ignore)
        _interrupt.arrived = False
        sys.unraisablehook = report


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Restore the signal handlers after the block."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not installed from Python, and not changed
                signal.signal(number, handler)


def check() -> None:
    """Raise an interrupt that a library has swallowed, as torch does while it imports numpy.

    Raises:
        KeyboardInterrupt: A signal has arrived and the block is still running.
    """
    if _interrupt.arrived:
        raise KeyboardInterrupt


def _report_unless_interrupt(
    report: Callable[["sys.UnraisableHookArgs"], object], ignored: "sys.UnraisableHookArgs"
) -> None:
    """Report an error that Python ignores in a callback, unless it is the interrupt.

    `check` raises that again.
    """
    if not (_interrupt.arrived and isinstance(ignored.exc_value, KeyboardInterrupt)):
        report(ignored)


def _raise(signum: int, frame: object) -> None:
    _interrupt.arrived = True
    raise KeyboardInterrupt


def _ignore(signum: int, frame: object) -> None:
    """The command has ended and its outcome is being printed."""
