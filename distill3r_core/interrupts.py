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

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Wish:
    """Whether somebody asked the run to stop."""

    stop: bool = False


@contextmanager
def interrupts_between_steps() -> Iterator[Wish]:
    """While the block runs, the first signal is only noted; the second one interrupts at once.

    Under a launcher every signal is only noted: Ctrl-C reaches each worker twice, from the
    terminal and from the launcher, which kills those that take too long.
    """
    wish = Wish()
    if not _is_main_thread():
        yield wish  # handlers belong to the main thread
        return
    launched = "TORCHELASTIC_RUN_ID" in os.environ

    def note(signum: int, frame: FrameType | None) -> None:
        if wish.stop and not launched:
            raise KeyboardInterrupt
        wish.stop = True

    with _answered_by(note):
        yield wish


@contextmanager
def held() -> Iterator[None]:
    """Signals that come while the block runs are answered at its end, by whoever answered before.

    For short blocks that share conditions, events or queues with other threads.
    """
    if not _is_main_thread() or isinstance(signal.getsignal(signal.SIGINT), _Note):
        yield  # handlers run in the main thread; a block around this one may hold them already
        return
    note = _Note()
    try:
        with _answered_by(note):
            yield
    finally:
        if note.came:
            signal.raise_signal(note.came[0])


@dataclass
class _Note:
    """What came."""

    came: list[int] = field(default_factory=list)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.came.append(signum)


@contextmanager
def _answered_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    # None: answered outside of Python, which could not be restored
    ours = [number for number in _SIGNALS if signal.getsignal(number) is not None]
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield
    finally:
        for number, answer in before.items():
            signal.signal(number, answer)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
