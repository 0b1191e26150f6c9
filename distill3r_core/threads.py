"""Threads beside a main thread that may be interrupted at any moment."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from distill3r_core.interrupts import held

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pool(ThreadPoolExecutor):
    """A pool whose block ends soon: after an error or Ctrl-C, what has not begun is not begun.

    Take results with `result_of`.
    """

    def submit(self, *args: Any, **kwargs: Any) -> "Future[Any]":
        """As of any executor; an interrupt comes after it."""
        with held():
            return super().submit(*args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of any executor; an interrupt comes after it."""
        with held():
            super().shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(cancel_futures=kind is not None)


def result_of(future: "Future[Result]") -> Result:
    """What a thread found, or its error; an interrupt comes after it."""
    with held():
        return future.result()


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
