"""The maps of each view of a sample, from those of its pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.types import PointMap, PointMaps

_TINY = 1e-8


@dataclass(frozen=True)
class MapsOfView:
    """Both maps of one view; None for one that was not asked for."""

    global_map: PointMap[Tensor] | None
    local_map: PointMap[Tensor] | None


class AnchorMaps:
    """The anchor as its pairs see it: the surest map, and the scale of each pair.

    Maps come in one after the other, and the surest alone is kept.
    """

    def __init__(self) -> None:
        self._kept: PointMap[Tensor] | None = None
        self._reference: Tensor | None = None  # distances of the first pair
        self._sureness: Tensor | None = None  # mean confidence of the kept map
        self._scale: Tensor | None = None  # scale of its pair
        self._scales: list[Tensor] = []

    def add(self, found: PointMap[Tensor]) -> None:
        """Another pair's map of the anchor, (B, H, W, ...)."""
        distance = found.points.norm(dim=-1).flatten(1)
        sureness = found.confidence.flatten(1).mean(1)
        if self._kept is None or self._sureness is None or self._reference is None:
            self._kept, self._sureness, self._reference = found, sureness, distance
            self._scale = torch.ones_like(sureness)
            self._scales.append(self._scale)
            return
        assert self._scale is not None
        # From the unit of this pair to that of the first one.
        scale = (self._reference / distance.clamp(min=_TINY)).median(1).values
        self._scales.append(scale)
        better = sureness > self._sureness
        self._sureness = torch.where(better, sureness, self._sureness)
        self._scale = torch.where(better, scale, self._scale)
        chosen = better[:, None, None]
        self._kept = PointMap(
            torch.where(chosen[..., None], found.points, self._kept.points),
            torch.where(chosen, found.confidence, self._kept.confidence),
        )

    @property
    def surest(self) -> PointMap[Tensor]:
        """The anchor's map in the pair of the highest mean confidence."""
        assert self._kept is not None, "no pair was added"
        return self._kept

    def factor(self, pair: int) -> Float[Tensor, "B"] | None:
        """What brings a pair to the scale of the surest one; None where there is no other pair.

        Args:
            pair: In the order in which they were added.
        """
        if len(self._scales) == 1:
            return None
        assert self._scale is not None
        return self._scales[pair] / self._scale


def assemble_views(views: Sequence[MapsOfView], *, as_list: bool) -> PointMaps | list[PointMaps]:
    """The maps of all views as one record, or one record for each view.

    Args:
        views: In the order of the sample, each (B, H, W, ...).
        as_list: One entry per view. Otherwise all have one size, and the axes are (B, N, ...).
    """
    if as_list:
        return [PointMaps.from_maps(view.global_map, view.local_map) for view in views]

    def stacked(maps: list[PointMap[Tensor] | None]) -> PointMap[Tensor] | None:
        whole = [found for found in maps if found is not None]
        if len(whole) < len(maps):
            return None
        return PointMap(
            torch.stack([found.points for found in whole], 1),
            torch.stack([found.confidence for found in whole], 1),
        )

    return PointMaps.from_maps(
        stacked([view.global_map for view in views]), stacked([view.local_map for view in views])
    )


def places_by_size(grids: Sequence[tuple[int, int]], *, chunk: int) -> list[tuple[int, ...]]:
    """The views behind the anchor, by the size of their grids, at most `chunk` together."""
    sorted_places: dict[tuple[int, int], list[int]] = {}
    for place, grid in enumerate(grids):
        if place:
            sorted_places.setdefault(grid, []).append(place)
    return [
        tuple(places[start : start + chunk])
        for places in sorted_places.values()
        for start in range(0, len(places), chunk)
    ]
