"""How many views go through a part of the student at once."""

import torch

from distill3r_core.models.multiview.spec import MultiviewSpec

# Elements of the largest map of a head, over all views of a chunk. Measured: on a CPU two views
# of 224x518 are faster than one (weights are packed once for both) and than four (new pages).
HEAD_NUMBERS = {"cuda": 2**28 + 2**27, "cpu": 2**26}
# Factor where the chunk is all views: few views leave memory free, and two passes over half of
# them start twice as many kernels.
_ALL_AT_ONCE = {"cuda": 2}
# Tokens that go through the encoder at once, over all views of a chunk.
ENCODER_TOKENS = {"cuda": 2**16, "cpu": 2**12}
_SMALLEST = "cpu"  # limits for any other device


def head_chunk_of(
    spec: MultiviewSpec, size: tuple[int, int], device: torch.device, *, views: int
) -> int:
    """Views of one size that go through a head at once.

    Args:
        size: Rows and columns of the views.
    """
    numbers = HEAD_NUMBERS.get(device.type, HEAD_NUMBERS[_SMALLEST])
    of_one = size[0] * size[1] * spec.heads.features
    if views * of_one <= _ALL_AT_ONCE.get(device.type, 1) * numbers:
        return views
    return max(1, numbers // of_one)


def encoder_chunk(patches: int, device: torch.device) -> int:
    """Views of that number of patches that go through the encoder at once."""
    return max(1, ENCODER_TOKENS.get(device.type, ENCODER_TOKENS[_SMALLEST]) // patches)
