"""How many views go through a head of a multiview student at once."""

import torch

from distill3r_core.models.multiview.spec import MultiviewSpec
from distill3r_core.models.tokens.chunks import HEAD_NUMBERS, limit_of

# Factor where the chunk is all views: few views leave memory free, and two passes over half of
# them start twice as many kernels.
_ALL_AT_ONCE = {"cuda": 2, "cpu": 1}


def head_chunk_of(
    spec: MultiviewSpec, size: tuple[int, int], device: torch.device, *, views: int
) -> int:
    """Views of one size that go through a head at once.

    Args:
        size: Rows and columns of the views.
    """
    numbers = limit_of(HEAD_NUMBERS, device)
    of_one = size[0] * size[1] * spec.heads.features
    if views * of_one <= limit_of(_ALL_AT_ONCE, device) * numbers:
        return views
    return max(1, numbers // of_one)
