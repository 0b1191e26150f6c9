"""Ctrl-C and SIGTERM while a command runs."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _Seen:
    """Whether one came."""

    came: bool = False


_seen = _Seen()


@contextmanager
def as_exceptions() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C: checkpoint first, exit 130. After it nothing comes.

    Raises:
        KeyboardInterrupt: Also where a library that was being imported made its own error of it.
    """
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a job behind &
        signal.signal(signal.SIGINT, _raise)
    told_by = sys.unraisablehook
    sys.unraisablehook = partial(_tell_unless_seen, told_by)
    try:
        yield
    except Exception as error:
        if _seen.came:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number in _SIGNALS:
            if signal.getsignal(number) == _raise:
                signal.signal(number, _over)
        _seen.came = False
        sys.unraisablehook = told_by


@contextmanager
def given_back() -> Iterator[None]:
    """Who answered signals before the block answers them after it."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not Python's, and not changed
                signal.signal(number, handler)


def check() -> None:
    """Raise again what was swallowed: torch does so while it imports numpy.

    Raises:
        KeyboardInterrupt: One came, and the block goes on.
    """
    if _seen.came:
        raise KeyboardInterrupt


def _tell_unless_seen(
    told_by: Callable[["sys.UnraisableHookArgs"], object], ignored: "sys.UnraisableHookArgs"
) -> None:
    """What Python does with an error in a callback of its own: it tells it, and goes on.

    Where that was an interrupt, `check` raises it again.
    """
    if not (_seen.came and isinstance(ignored.exc_value, KeyboardInterrupt)):
        told_by(ignored)


def _raise(signum: int, frame: object) -> None:
    _seen.came = True
    raise KeyboardInterrupt


def _over(signum: int, frame: object) -> None:
    """The command is done, and what became of it is being said."""
