"""How a prediction is carried onto the truth before distances are measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import FailedError, GeometryError
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.metrics import AlignedClouds, align_view
from distill3r_core.geometry.similarity import fit_similarity
from distill3r_core.types import RawMaps


class UnalignedError(FailedError):
    """The fault of a prediction: a view without a place, points not finite or all on a line."""


@runtime_checkable
class Aligner(Protocol):
    """Aligns the prediction of a sequence."""

    def __call__(self, truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
        """Yield pairs of clouds: one pair per view, or one for the whole sequence.

        Raises:
            UnalignedError: The prediction cannot be aligned; names the sequence or the view.
            FailedError: The truth can be aligned with nothing.
        """
        ...


@dataclass(frozen=True)
class Alignment:
    """An alignment with what a reader must know about it.

    Args:
        head: The map that is aligned: in each view's own frame ("local") or the anchor's.
        places: All views are aligned together, so that clouds depend on where maps are placed.
    """

    text: str  # the rule in words, for result files
    head: Literal["local", "global"]
    align: Aligner
    places: bool = False


def at_fault(
    where: str, true: Float[Tensor, "M 3"], error: GeometryError
) -> UnalignedError | FailedError:
    """What an alignment that failed is to raise: points of the truth that fix nothing, or not.

    Args:
        where: Name of the sequence or view.
        true: Its true points.
    """
    try:
        fit_similarity(true.double(), true.double())
    except GeometryError as broken:
        return FailedError(f"{where}: the truth cannot be aligned: {broken}")
    return UnalignedError(f"{where}: {error}")


def align_views(truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
    """One least-squares similarity per view, over its valid pixels."""
    for view, name in enumerate(truth.view_names):
        try:
            yield align_view(maps.points_local[view], truth.points[view], truth.mask[view])
        except GeometryError as error:
            true = truth.points[view][truth.mask[view]]
            raise at_fault(f"{truth.name}, {name}", true, error) from error


PER_VIEW = Alignment(
    text="one similarity per view, over its valid pixels (Umeyama)", head="local", align=align_views
)
