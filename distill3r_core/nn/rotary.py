"""Two-dimensional rotary position embedding (RoFormer, arXiv:2104.09864, once per image axis)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BASE = 100.0  # of CroCo and all that descends from it


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines for every patch.

    Args:
        cos: Axis 2: row, column. F frequencies, a quarter of a head's channels. The batch axis
            is 1 where all items have the same grid.
    """

    cos: Float[Tensor, "B P 2 F"]
    sin: Float[Tensor, "B P 2 F"]


def grid_rotation(
    rows: int,
    columns: int,
    head_width: int,
    *,
    base: float = BASE,
    device: torch.device | None = None,
) -> Rotation:
    """The rotation of a grid of patches in row-major order, rows and columns counted from 0.

    Args:
        head_width: Channels of one attention head, a multiple of 4.
        base: The longest wavelength is 2 pi times almost this.
    """
    return rotation_at(grid_positions(rows, columns, device=device), head_width, base=base)


def grid_positions(
    rows: int, columns: int, *, device: torch.device | None = None
) -> Int[Tensor, "P 2"]:
    """Row and column of every patch of a grid in row-major order, counted from 0."""
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    column = torch.arange(columns, device=device).repeat(rows)
    return torch.stack([row, column], dim=-1)


def rotation_at(positions: Int[Tensor, "P 2"], head_width: int, *, base: float = BASE) -> Rotation:
    """The rotation of tokens at any positions.

    Args:
        positions: Row and column of every token; (0, 0) leaves a token as it is.
        head_width: Channels of one attention head, a multiple of 4.
        base: The longest wavelength is 2 pi times almost this.
    """
    assert head_width % 4 == 0, f"a head of {head_width} channels has no four quarters"
    quarter = head_width // 4
    steps = torch.arange(quarter, device=positions.device, dtype=torch.float32)
    frequencies = base ** (-steps / quarter)
    angles = (positions[..., None] * frequencies)[None]  # (1, P, 2, F)
    return Rotation(angles.cos(), angles.sin())


def rotate(
    heads: Float[Tensor, "B heads P width"], rotation: Rotation
) -> Float[Tensor, "B heads P width"]:
    """Rotate queries or keys.

    The first half of a head's channels turns with the patch row, the second with its column;
    within a half, channel c turns together with channel c + a quarter of the head's width.
    """
    first, second = heads.unflatten(-1, (2, 2, -1)).unbind(-2)  # (B, heads, P, 2, F) each
    cos = rotation.cos[:, None].to(heads.dtype)
    sin = rotation.sin[:, None].to(heads.dtype)
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-2)
    return turned.flatten(-3)  # (B, heads, P, width)
