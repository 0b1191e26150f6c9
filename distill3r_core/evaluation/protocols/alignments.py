"""How a prediction is carried onto the truth before distances are measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from distill3r_core.errors import FailedError, GeometryError
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.metrics import AlignedClouds, align_view
from distill3r_core.types import RawMaps


class UnplacedError(FailedError):
    """A prediction has no place for some view, so that its views make no cloud together."""


@runtime_checkable
class Aligner(Protocol):
    """Aligns the prediction of a sequence."""

    def __call__(self, truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
        """Yield pairs of clouds: one pair per view, or one for the whole sequence.

        Raises:
            UnplacedError: The prediction does not place all views in one frame.
            FailedError: The prediction cannot be aligned; names the view.
        """
        ...


@dataclass(frozen=True)
class Alignment:
    """An alignment with what a reader must know about it.

    Args:
        head: The map that is aligned: in each view's own frame ("local") or the anchor's.
    """

    text: str  # the rule in words, for result files
    head: Literal["local", "global"]
    align: Aligner


def align_views(truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
    """One least-squares similarity per view, over its valid pixels."""
    for view, name in enumerate(truth.view_names):
        try:
            yield align_view(maps.points_local[view], truth.points[view], truth.mask[view])
        except GeometryError as error:
            raise FailedError(f"{truth.name}, {name}: {error}") from error


PER_VIEW = Alignment(
    text="one similarity per view, over its valid pixels (Umeyama)", head="local", align=align_views
)
