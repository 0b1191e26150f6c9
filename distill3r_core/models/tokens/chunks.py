"""How much of a pass is in memory at once, by the kind of device."""

from collections.abc import Mapping

import torch

# Elements of the largest map of a head, over all views of a chunk. Measured: on a CPU two views
# of 224x518 are faster than one (weights are packed once for both) and than four (new pages).
HEAD_NUMBERS = {"cuda": 2**28 + 2**27, "cpu": 2**26}
# Tokens that go through the encoder at once, over all views of a chunk.
ENCODER_TOKENS = {"cuda": 2**16, "cpu": 2**12}


def limit_of(limits: Mapping[str, int], device: torch.device) -> int:
    """The limit of a device; that of a CPU, which is the smallest, for kinds that have none."""
    return limits.get(device.type, limits["cpu"])


def encoder_chunk(patches: int, device: torch.device) -> int:
    """Views of that number of patches that go through the encoder at once."""
    return max(1, limit_of(ENCODER_TOKENS, device) // patches)
