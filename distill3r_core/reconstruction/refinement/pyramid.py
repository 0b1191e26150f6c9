"""Images and depth at several resolutions: what the alignment reads."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill3r_core.geometry.cameras import rays

_COARSEST = 10  # rows or columns of the shorter edge that the coarsest level has at least
_BLUR = (0.25, 0.5, 0.25)
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Level:
    """All views at one resolution.

    Args:
        gray: Brightness in [0, 1].
        sampled: What is read at projected points: brightness, its two derivatives by pixels, log
            depth, its two derivatives, and validity (1 or 0).
        depth: z, positive; 1 outside the mask.
        mask: Pixels whose depth is known.
        rays: Directions of the pixels' rays, z = 1, by `intrinsics`.
        intrinsics: K in pixels of this level.
        middle: Median depth of each view.
    """

    gray: Float[Tensor, "N H W"]
    sampled: Float[Tensor, "N 7 H W"]
    depth: Float[Tensor, "N H W"]
    mask: Bool[Tensor, "N H W"]
    rays: Float[Tensor, "N H W 3"]
    intrinsics: Float[Tensor, "N 3 3"]
    middle: Float[Tensor, " N"]


def build_pyramid(
    images: Float[Tensor, "N 3 H W"],
    depth: Float[Tensor, "N H W"],
    mask: Bool[Tensor, "N H W"],
    intrinsics: Float[Tensor, "N 3 3"],
) -> list[Level]:
    """Levels of halved size, the coarsest first.

    Args:
        images: RGB in [0, 1].
        depth: z of the pixels in any unit. Anything outside the mask.
        mask: Pixels whose depth counts; it is positive and finite there.
        intrinsics: K in pixels of the images.
    """
    height, width = images.shape[-2:]
    gray = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1)
    mask = mask & (depth > 0) & depth.isfinite()
    log_depth = torch.where(mask, depth, 1.0).log()
    count = max(1, 1 + int(math.log2(max(1, min(height, width) / _COARSEST))))
    levels = []
    for index in range(count):
        size = (max(1, round(height / 2**index)), max(1, round(width / 2**index)))
        levels.append(_level(gray, log_depth, mask, intrinsics, size))
    return levels[::-1]


def _level(
    gray: Tensor, log_depth: Tensor, mask: Tensor, intrinsics: Tensor, size: tuple[int, int]
) -> Level:
    height, width = gray.shape[-2:]
    share = _shrink(mask.to(gray.dtype), size)
    known = share >= 0.5
    log_depth = _shrink(torch.where(mask, log_depth, 0.0), size) / share.clamp(min=0.5)
    log_depth = torch.where(known, log_depth, 0.0)
    gray = _blurred(_shrink(gray, size))
    scale = intrinsics.new_tensor([size[1] / width, size[0] / height, 1.0])
    K = intrinsics * scale[:, None]
    sampled = torch.stack(
        [
            gray, *_derivatives(gray), log_depth, *_derivatives(log_depth), known.to(gray.dtype)
        ],
        dim=1,
    )  # fmt: skip
    middle = torch.where(known, log_depth, torch.nan).flatten(1).nanmedian(dim=1).values
    middle = middle.nan_to_num(0.0).exp()
    return Level(gray, sampled, log_depth.exp(), known, rays(K, size).contiguous(), K, middle)


def _shrink(plane: Float[Tensor, "N H W"], size: tuple[int, int]) -> Float[Tensor, "N h w"]:
    if plane.shape[-2:] == size:
        return plane
    return functional.interpolate(plane[:, None], size, mode="area")[:, 0]


def _blurred(plane: Float[Tensor, "N H W"]) -> Float[Tensor, "N H W"]:
    """Binomial, so that derivatives hold over more than a pixel."""
    weights = plane.new_tensor(_BLUR)
    padded = functional.pad(plane[:, None], (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(
        functional.conv2d(padded, weights.view(1, 1, 1, 3)), weights.view(1, 1, 3, 1)
    )[:, 0]


def _derivatives(plane: Float[Tensor, "N H W"]) -> tuple[Tensor, Tensor]:
    """By columns and by rows, central differences."""
    padded = functional.pad(plane[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return across, down
