"""How many pairs go through decoder and heads of a pair student at once."""

import torch

from distill3r_core.models.pairs.spec import PairSpec
from distill3r_core.models.tokens.chunks import HEAD_NUMBERS, limit_of


def pair_chunk_of(
    spec: PairSpec, size: tuple[int, int], device: torch.device, *, views: int
) -> int:
    """Pairs of views of one size that go through decoder and heads at once.

    Args:
        size: Rows and columns of the views.
        views: Views of the sample, the anchor included.
    """
    numbers = limit_of(HEAD_NUMBERS, device)
    chunk = max(1, numbers // (size[0] * size[1] * spec.heads.features))
    return min(chunk, max(views - 1, 1))
