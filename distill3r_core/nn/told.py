"""Whom a long forward tells how far it is."""

from typing import Literal, Protocol, runtime_checkable

Stretch = Literal["encoder", "fusion", "heads"]


@runtime_checkable
class Told(Protocol):
    """Somebody who is told."""

    def __call__(self, stretch: Stretch, count: int) -> None:
        """So many views are through the encoder, blocks of the fusion done, or maps made by a head.

        Told of 0 where a stretch begins. On a GPU the work is ordered by then, not done.
        """
        ...


def nobody(stretch: Stretch, count: int) -> None:
    """Nobody wants to know."""
