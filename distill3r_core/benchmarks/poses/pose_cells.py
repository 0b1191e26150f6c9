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
    "size-in-heads",
    "near-views",
    "larger-heads",
    "planar",
]


@dataclass(frozen=True)
class PoseCell:
    """One training of the study.

    Args:
        summary: The cell in words.
        recipe: What differs from the preset in the settings of `train`.
        times: Factor of the number of steps.
        heads: Factor of the channels of the heads.
        views: Factor of the views of a sample; a step has as many images.
    """

    summary: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1
    heads: int = 1
    views: int = 1


CELLS: Mapping[CellName, PoseCell] = {
    "base": PoseCell("the preset as it is"),
    "twice": PoseCell("twice the steps", times=2),
    "four-times": PoseCell("four times the steps", times=4),
    "more-views": PoseCell("samples of twice the views, half as many", views=2),
    "pose-term": PoseCell("a term of poses", {"loss": {"terms": {"pose": {"weight": 1.0}}}}),
    "fixed-order": PoseCell(
        "views in their order, the first one the anchor", {"data": {"augment_views": False}}
    ),
    "crops": PoseCell("random zoom and aspect", {"data": {"zoom": 1.5, "aspect": 1.2}}),
    # With the term goes the predicted size: it is to be compared with `size-in-heads`, too.
    "no-meters": PoseCell("no term of scale", {"loss": {"metric": False}}),
    "size-in-heads": PoseCell("heads learn the size", {"model": {"map_size": "free"}}),
    # Random views of a sample of 20 frames lie 7 frames apart; these 3.
    "near-views": PoseCell("views that overlap more", {"data": {"span": 8}}),
    "larger-heads": PoseCell("heads twice as wide", heads=2),
    "planar": PoseCell(
        "points of one plane stay in it",
        {"loss": {"terms": {"planar": {"weight": 0.1, "flat": 0.2}}}},
    ),
}
AGAINST: CellName = "base"  # the others are compared with it, seed by seed
COMPARED: tuple[tuple[CellName, CellName], ...] = (("no-meters", "size-in-heads"),)
STUDY: tuple[CellName, ...] = tuple(CELLS)
