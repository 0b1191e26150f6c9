"""Progress of a long forward pass."""

from typing import Literal, Protocol, runtime_checkable

Stretch = Literal["encoder", "fusion", "heads"]


@runtime_checkable
class ProgressCallback(Protocol):
    """Called as a forward pass proceeds."""

    def __call__(self, stretch: Stretch, count: int) -> None:
        """Report how many views are encoded, fusion blocks done, or maps made by a head.

        Called with 0 when a stage begins. On a GPU the work is queued by then, not finished.
        """
        ...


def no_progress(stretch: Stretch, count: int) -> None:
    """Ignore the progress."""
