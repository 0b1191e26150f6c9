"""Delay Ctrl-C and SIGTERM to the end of a step, or until a lock is released.

Python raises an interrupt in the main thread between any two instructions, also inside `threading`.
A condition that is held at that moment stays locked; the threads that wait for it never end, nor
does the process that waits for the threads.
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
    """Within the block the first signal only sets the flag; a second one interrupts at once.

    Under a launcher every signal only sets the flag: Ctrl-C reaches each worker twice, from the
    terminal and from the launcher, which kills workers that take too long.
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

    with _handled_by(_BlockHandler(note)):
        yield stop_flag


@contextmanager
def defer_signals() -> Iterator[None]:
    """Hold signals back until the end of the block, where the previous handler receives them.

    For short blocks that use conditions, events or queues shared with other threads.
    """
    if _holding.now or not _is_main_thread():
        yield  # held by an outer block already, or not the main thread, where handlers run
        return
    pending: list[int] = []
    try:
        with _handled_by(_BlockHandler(pending.append)):
            _holding.now = True
            try:
                yield
            finally:
                _holding.now = False
    finally:
        for signum in pending:
            signal.raise_signal(signum)


@dataclass
class _HoldState:
    """Whether the main thread is in a block that holds signals."""

    now: bool = False


_holding = _HoldState()


@dataclass
class _BlockHandler:
    """A signal handler for the duration of a block.

    An interrupt can arrive while handlers are being exchanged, which leaves the handler of a block
    that has ended or never began. Such a handler passes signals on to the one before it.
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
def _handled_by(handler: _BlockHandler) -> Iterator[None]:
    for number in _SIGNALS:
        found = signal.getsignal(number)
        while isinstance(found, _BlockHandler) and not found.active:
            found = found.before[number]
        handler.before[number] = found
    # None: installed outside of Python; it could not be restored
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
