"""Views of a sample by size: each size goes through encoder and heads as one batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import RequestError
from distill3r_core.models.student import OneHead
from distill3r_core.types import Images, PointMap, PointMaps


@dataclass(frozen=True)
class Group:
    """Views of one size."""

    places: tuple[int, ...]
    images: Float[Tensor, "B n 3 H W"]  # RGB in [0, 1]
    patch: int  # pixels along a patch

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.images.shape[-2] // self.patch, self.images.shape[-1] // self.patch

    @property
    def patches(self) -> int:
        """Tokens of one view."""
        return self.grid[0] * self.grid[1]


def group_by_size(images: Images | Sequence[Tensor], patch: int) -> list[Group]:
    """Sort views by size.

    Args:
        images: Views of one size as a tensor, or the views of one sample, whose sizes may differ.
        patch: Pixels along a patch, which both sides are multiples of.

    Raises:
        RequestError: There are no views, or a side is not a multiple of the patch.
    """
    if not (images.shape[1] if isinstance(images, Tensor) else len(images)):
        raise RequestError("a sample without views")
    if isinstance(images, Tensor):
        _check_size(images, patch)
        return [Group(tuple(range(images.shape[1])), images, patch)]
    places: dict[tuple[int, int], list[int]] = {}
    for place, image in enumerate(images):
        _check_size(image, patch)
        places.setdefault((image.shape[-2], image.shape[-1]), []).append(place)
    return [
        Group(tuple(members), torch.stack([images[place] for place in members])[None], patch)
        for members in places.values()
    ]


def _check_size(images: Tensor, patch: int) -> None:
    height, width = images.shape[-2:]
    if height % patch or width % patch or not height or not width:
        raise RequestError(
            f"images of {height}x{width}: both sides must be multiples of {patch}",
            hint=f"{max(1, height // patch) * patch}x{max(1, width // patch) * patch} fits",
        )


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
