"""How many views go through a part of the student at once."""

import torch

from distill3r_core.models.spec import StudentSpec

# Numbers of the largest map of a head, over all views of a chunk. Measured: on a CPU two views
# of 224x518 are faster than one (weights are packed once for both) and than four (new pages).
HEAD_NUMBERS = {"cuda": 2**28 + 2**27, "cpu": 2**26}
# How many times as many, if those are all: few views have little else in memory, and two passes
# over half of them start twice as many kernels.
_ALL_AT_ONCE = {"cuda": 2}
# Tokens of all views that the encoder sees at once.
ENCODER_TOKENS = {"cuda": 2**16, "cpu": 2**12}
_SMALLEST = "cpu"  # what an unknown device is taken for


def head_chunk_of(
    spec: StudentSpec, size: tuple[int, int], device: torch.device, *, views: int
) -> int:
    """Views of one size that go through a head at once.

    Args:
        spec: Of the student.
        size: Rows and columns of the views.
        device: Where it computes.
        views: How many there are.
    """
    numbers = HEAD_NUMBERS.get(device.type, HEAD_NUMBERS[_SMALLEST])
    of_one = size[0] * size[1] * spec.head_features
    if views * of_one <= _ALL_AT_ONCE.get(device.type, 1) * numbers:
        return views
    return max(1, numbers // of_one)


def encoder_chunk(patches: int, device: torch.device) -> int:
    """Views of so many patches that go through the encoder at once."""
    return max(1, ENCODER_TOKENS.get(device.type, ENCODER_TOKENS[_SMALLEST]) // patches)
