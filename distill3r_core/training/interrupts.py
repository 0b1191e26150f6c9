"""Ctrl-C and SIGTERM as a wish that the loop grants between two steps."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    if threading.current_thread() is not threading.main_thread():
        yield wish  # handlers belong to the main thread
        return
    launched = "TORCHELASTIC_RUN_ID" in os.environ

    def note(signum: int, frame: FrameType | None) -> None:
        if wish.stop and not launched:
            raise KeyboardInterrupt
        wish.stop = True

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
