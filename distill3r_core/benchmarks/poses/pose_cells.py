"""The cells of the pose study: one thing each in which a training differs from the first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CellName = Literal[
    "base",
    "twice",
    "four-times",
    "more-views",
    "pose-term",
    "fixed-order",
    "crops",
    "no-meters",
    "size-apart",
]


@dataclass(frozen=True)
class PoseCell:
    """One training of the study.

    Args:
        summary: The cell in words.
        recipe: What differs from the preset in the settings of `train`.
        times: Factor of the number of steps.
    """

    summary: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1


CELLS: Mapping[CellName, PoseCell] = {
    "base": PoseCell("the preset as it is"),
    "twice": PoseCell("twice the steps", times=2),
    "four-times": PoseCell("four times the steps", times=4),
    # As many images a step as the preset takes: 4 views in batches of 2.
    "more-views": PoseCell("samples of 8 views, half as many", {"data": {"views": 8, "batch": 1}}),
    "pose-term": PoseCell("a term of poses", {"loss": {"terms": {"pose": {"weight": 1.0}}}}),
    "fixed-order": PoseCell(
        "views in their order, the first one the anchor", {"data": {"augment_views": False}}
    ),
    "crops": PoseCell("random zoom and aspect", {"data": {"zoom": 1.5, "aspect": 1.2}}),
    "no-meters": PoseCell("no term of scale", {"loss": {"metric": False}}),
    "size-apart": PoseCell("sizes predicted apart", {"model": {"map_size": "predicted"}}),
}
AGAINST: CellName = "base"  # the others are compared with it, seed by seed
STUDY: tuple[CellName, ...] = tuple(CELLS)
