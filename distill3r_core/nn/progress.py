"""Progress of a long forward pass."""

from typing import Literal, Protocol, runtime_checkable

Stretch = Literal["encoder", "fusion", "heads"]


@runtime_checkable
class ProgressCallback(Protocol):
    """Called as a forward pass proceeds."""

    def __call__(self, stretch: Stretch, count: int) -> None:
        """So many views are through the encoder, blocks of the fusion done, or maps made by a head.

        Called with 0 where a stretch begins. On a GPU the work is ordered by then, not done.
        """
        ...


def no_progress(stretch: Stretch, count: int) -> None:
    """Ignore the progress."""
