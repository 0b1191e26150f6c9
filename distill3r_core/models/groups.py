"""Views of a sample, sorted by size: each size goes through encoder and heads as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import RequestError
from distill3r_core.models.spec import PATCH
from distill3r_core.types import Images


@dataclass(frozen=True)
class Group:
    """Views of one size.

    Args:
        places: Of the views in the sample.
        images: RGB in [0, 1].
    """

    places: tuple[int, ...]
    images: Float[Tensor, "B n 3 H W"]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.images.shape[-2] // PATCH, self.images.shape[-1] // PATCH

    @property
    def patches(self) -> int:
        """Tokens of one view."""
        return self.grid[0] * self.grid[1]


def group_by_size(images: Images | Sequence[Tensor]) -> tuple[list[Group], int]:
    """Views by size, and how many there are.

    Args:
        images: Of one size as a tensor, or the views of one sample, whose sizes may differ.

    Raises:
        RequestError: There are none, or a side is not a multiple of 14.
    """
    if not (images.shape[1] if isinstance(images, Tensor) else len(images)):
        raise RequestError("a sample without views")
    if isinstance(images, Tensor):
        _check_size(images)
        return [Group(tuple(range(images.shape[1])), images)], images.shape[1]
    places: dict[tuple[int, int], list[int]] = {}
    for place, image in enumerate(images):
        _check_size(image)
        places.setdefault((image.shape[-2], image.shape[-1]), []).append(place)
    groups = [
        Group(tuple(members), torch.stack([images[place] for place in members])[None])
        for members in places.values()
    ]
    return groups, len(images)


def _check_size(images: Tensor) -> None:
    height, width = images.shape[-2:]
    if height % PATCH or width % PATCH or not height or not width:
        raise RequestError(
            f"pictures of {height}x{width}: both sides must be multiples of {PATCH}",
            hint=f"{max(1, height // PATCH) * PATCH}x{max(1, width // PATCH) * PATCH} fits",
        )


def tokens_of(
    layer: Float[Tensor, "B T C"], group: Group, lengths: Sequence[int]
) -> Float[Tensor, "n P C"]:
    """A layer's tokens of the views of a group, one row per view.

    Args:
        layer: Tokens of all views, one view after the other.
        group: Some of the views.
        lengths: Tokens of every view of the sample.
    """
    if len(group.places) == len(lengths):
        return layer.unflatten(1, (len(lengths), -1)).flatten(0, 1)
    views = layer.split(list(lengths), dim=1)
    return torch.cat([views[place] for place in group.places])
