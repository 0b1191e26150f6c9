"""Ctrl-C and SIGTERM where they may come: between two steps, and not while a lock is taken.

An interrupt is an error that Python raises in the main thread between any two of its instructions,
also in the midst of `threading`'s own ones. A condition that is then held stays so, and the threads
that wait for it never end, nor does the process that waits for them.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopFlag:
    """Whether somebody asked the run to stop."""

    stop: bool = False


@contextmanager
def interrupts_between_steps() -> Iterator[StopFlag]:
    """While the block runs, the first signal is only noted; the second one interrupts at once.

    Under a launcher every signal is only noted: Ctrl-C reaches each worker twice, from the
    terminal and from the launcher, which kills those that take too long.
    """
    stop_flag = StopFlag()
    if not _is_main_thread():
        yield stop_flag  # handlers belong to the main thread
        return
    launched = "TORCHELASTIC_RUN_ID" in os.environ

    def note(signum: int) -> None:
        if stop_flag.stop and not launched:
            raise KeyboardInterrupt
        stop_flag.stop = True

    with _answered_by(_Answer(note)):
        yield stop_flag


@contextmanager
def held() -> Iterator[None]:
    """Signals that come while the block runs are answered at its end, by whoever answered before.

    For short blocks that share conditions, events or queues with other threads.
    """
    if _holding.now or not _is_main_thread():
        yield  # a block around this one holds them; handlers run in the main thread alone
        return
    came: list[int] = []
    try:
        with _answered_by(_Answer(came.append)):
            _holding.now = True
            try:
                yield
            finally:
                _holding.now = False
    finally:
        for signum in came:
            signal.raise_signal(signum)


@dataclass
class _Holding:
    """Whether the main thread is within a block that holds signals."""

    now: bool = False


_holding = _Holding()


@dataclass
class _Answer:
    """A handler for the time of a block.

    An interrupt may meet the very change of handlers, so that one of a block that is over stays,
    or of one that was never entered: it gives signals on to the handler before it.
    """

    answer: Callable[[int], None]
    active: bool = False
    before: dict[int, Any] = field(default_factory=dict)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        before = self.before[signum]
        if self.active:
            self.answer(signum)
        elif callable(before):
            before(signum, frame)
        elif before == signal.SIG_DFL:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)


@contextmanager
def _answered_by(handler: _Answer) -> Iterator[None]:
    for number in _SIGNALS:
        found = signal.getsignal(number)
        while isinstance(found, _Answer) and not found.active:
            found = found.before[number]
        handler.before[number] = found
    # None: answered outside of Python, which could not be restored
    ours = [number for number in _SIGNALS if handler.before[number] is not None]
    try:
        for number in ours:
            signal.signal(number, handler)
        handler.active = True
        yield
    finally:
        handler.active = False
        for number in ours:
            signal.signal(number, handler.before[number])


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
