"""Views of a sample by size: each size goes through the network as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import RequestError
from distill3r_core.types import Images


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
