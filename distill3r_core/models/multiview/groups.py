"""Tokens and maps of all views of a sample, put together from those of views of one size."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.models.student import OneHead
from distill3r_core.models.tokens.view_groups import Group
from distill3r_core.types import PointMap, PointMaps


def join_views(
    groups: Sequence[Group], encoded: Sequence[Float[Tensor, "B _n _P D"]]
) -> tuple[Float[Tensor, "B T D"], list[int]]:
    """Tokens of all views in the order of the sample, and the number of tokens of every view."""
    if len(groups) == 1:
        return encoded[0].flatten(1, 2), [groups[0].patches] * len(groups[0].places)
    views: list[Tensor] = [encoded[0]] * sum(len(group.places) for group in groups)
    for group, part in zip(groups, encoded, strict=True):
        for row, place in enumerate(group.places):
            views[place] = part[:, row]
    return torch.cat(views, dim=1), [view.shape[1] for view in views]


def tokens_of(
    layer: Float[Tensor, "B T C"], group: Group, lengths: Sequence[int]
) -> Float[Tensor, "n P C"]:
    """A layer's tokens of the views of a group, one row per view.

    Args:
        layer: Tokens of all views, one view after the other.
    """
    if len(group.places) == len(lengths):
        return layer.unflatten(1, (len(lengths), -1)).flatten(0, 1)
    views = layer.split(list(lengths), dim=1)
    return torch.cat([views[place] for place in group.places])


def assemble(
    parts: Iterable[tuple[Group, Mapping[OneHead, PointMap[Tensor]]]], *, as_list: bool
) -> PointMaps | list[PointMaps]:
    """Put the maps of all groups in the order of the sample.

    Args:
        parts: Each group with its maps by head, (B n, H, W, ...).
        as_list: One entry per view, each (1, H, W, ...). Otherwise there is one group, whose maps
            become (B, N, H, W, ...).
    """
    found: dict[int, PointMaps] = {}
    for group, maps in parts:
        if not as_list:
            shape = (len(group.images), -1)
            return _changed(maps, lambda tensor, shape=shape: tensor.unflatten(0, shape))
        for row, place in enumerate(group.places):
            found[place] = _changed(maps, lambda tensor, row=row: tensor[row, None])
    return [found[place] for place in sorted(found)]


def _changed(
    maps: Mapping[OneHead, PointMap[Tensor]], change: Callable[[Tensor], Tensor]
) -> PointMaps:
    both = {name: PointMap(change(m.points), change(m.confidence)) for name, m in maps.items()}
    return PointMaps.from_maps(both.get("global"), both.get("local"))
