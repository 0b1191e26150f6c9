"""Threads beside a main thread that may be interrupted at any moment."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

from distill3r_core.interrupts import held

Item = TypeVar("Item")
Result = TypeVar("Result")

_SLICE = 0.1  # seconds of waiting between which an interrupt may come


class Pool(ThreadPoolExecutor):
    """A pool whose block ends soon: after an error or Ctrl-C, what has not begun is not begun.

    Take results with `result_of`; long jobs call `check` now and then.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._left = False
        self._running: set[Future[Any]] = set()

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """As of any executor; an interrupt comes after it."""
        with held():
            future = super().submit(*args, **kwargs)
            self._running.add(future)
            future.add_done_callback(self._running.discard)
            return future

    def check(self) -> None:
        """Called by a job between two parts of its work.

        Raises:
            CancelledError: The pool's block was left, nobody waits for the job.
        """
        if self._left:
            raise CancelledError

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of any executor, but a second interrupt does not wait for jobs that run."""
        with held():
            super().shutdown(wait=False, cancel_futures=cancel_futures)
        if wait:
            for future in tuple(self._running):
                _await(future)
            with held():
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
    """What a thread found, or its error. An interrupt leaves no lock taken."""
    _await(future)
    with held():
        return future.result()


def _await(future: "Future[Any]") -> None:
    done = False
    while not done:
        with held():
            done = future.done() or bool(wait((future,), timeout=_SLICE).done)


def ahead(
    submit: "Callable[[Item], Future[Result]]", items: Iterable[Item], count: int
) -> "Iterator[Future[Result]]":
    """The futures of all items in order, of which so many more are begun."""
    begun: deque[Future[Result]] = deque()
    for item in items:
        begun.append(submit(item))
        if len(begun) > count:
            yield begun.popleft()
    yield from begun
