"""Thread pools for a main thread that can be interrupted at any moment."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

from distill3r_core.system.interrupts import defer_signals

Item = TypeVar("Item")
Result = TypeVar("Result")

_SLICE = 0.1  # seconds of waiting after which an interrupt is handled


class Pool(ThreadPoolExecutor):
    """A thread pool that starts no further jobs after an error or Ctrl-C in its block.

    Take results with `result_of`; long jobs call `check` from time to time.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._left = False
        self._running: set[Future[Any]] = set()

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Submit a job; an interrupt is handled afterwards."""
        with defer_signals():
            future = super().submit(*args, **kwargs)
            self._running.add(future)
            future.add_done_callback(self._running.discard)
            return future

    def check(self) -> None:
        """End the calling job if its result is no longer needed.

        Raises:
            CancelledError: The block of the pool has ended with an error.
        """
        if self._left:
            raise CancelledError

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down; a second interrupt does not wait for running jobs."""
        with defer_signals():
            super().shutdown(wait=False, cancel_futures=cancel_futures)
        if wait:
            for future in tuple(self._running):
                _await(future)
            with defer_signals():
                super().shutdown(wait=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = kind is not None
        self.shutdown(cancel_futures=self._left)


def result_of(future: "Future[Result]") -> Result:
    """The result of a thread, or its error. An interrupt leaves no lock acquired."""
    _await(future)
    with defer_signals():
        return future.result()


def _await(future: "Future[Any]") -> None:
    done = False
    while not done:
        with defer_signals():
            done = future.done() or bool(wait((future,), timeout=_SLICE).done)


def ahead(
    submit: "Callable[[Item], Future[Result]]", items: Iterable[Item], count: int
) -> "Iterator[Future[Result]]":
    """The futures of all items in order, with `count` more submitted ahead."""
    submitted: deque[Future[Result]] = deque()
    for item in items:
        submitted.append(submit(item))
        if len(submitted) > count:
            yield submitted.popleft()
    yield from submitted
