"""View embedding: a fixed sine embedding of the number of the view that a token belongs to."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

TABLE_ROWS = 1000  # of the released models: at most this many views
_SEED_RANGE = 2**32
_BASE = 10000.0


def view_code_table(width: int, *, rows: int = TABLE_ROWS) -> Float[Tensor, "rows width"]:
    """Row n: sines of n times every frequency, then the cosines, in float32.

    Args:
        rows: The most views a network can tell apart.
    """
    half = width // 2
    frequencies = _BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(rows, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def sequential_view_numbers(batch: int, views: int) -> Int[Tensor, "B N"]:
    """View i has number i."""
    return torch.arange(views).expand(batch, views)


def random_view_numbers(
    batch: int, views: int, generator: torch.Generator, *, rows: int = TABLE_ROWS
) -> Int[Tensor, "B N"]:
    """View 0 has number 0, the others distinct random numbers from 1, drawn anew for every item.

    Args:
        batch: Items, which draw one after the other.
    """
    anchor = torch.zeros(1, dtype=torch.long)
    drawn = [
        torch.cat([anchor, torch.randperm(rows - 1, generator=generator)[: views - 1] + 1])
        for _ in range(batch)
    ]
    return torch.stack(drawn)


def generator_from_global(*, rank: int = 0) -> torch.Generator:
    """The generator of one forward pass of the original: seeded by a draw from torch's own.

    Args:
        rank: Rank of the process among those that train together; added to the seed.
    """
    seed = int(torch.randint(0, _SEED_RANGE, (1,)).item())
    return torch.Generator().manual_seed(seed + rank)
