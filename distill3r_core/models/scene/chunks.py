"""How many images go through a scene student at once."""

import torch

from distill3r_core.models.scene.spec import ConvolutionalSpec, MobileSpec, SceneSpec
from distill3r_core.models.tokens.chunks import limit_of

# Numbers of the widest map, over the images of a chunk.
_NUMBERS = {"cuda": 2**28, "cpu": 2**25}
# Channels of MobileNet's maps at half the resolution, over four, for a pixel of the image.
_MOBILE_NUMBERS = 32


def numbers_per_pixel(spec: SceneSpec) -> int:
    """Numbers that the widest maps hold for a pixel: the input and the output of a layer."""
    network = spec.network
    if isinstance(network, ConvolutionalSpec):
        return 2 * network.width
    if isinstance(network, MobileSpec):
        return _MOBILE_NUMBERS + 2 * network.channels
    return 2 * network.head_width


def chunk_of(spec: SceneSpec, size: tuple[int, int], device: torch.device) -> int:
    """Images of a size that go through the network at once."""
    numbers = limit_of(_NUMBERS, device)
    return max(1, numbers // (size[0] * size[1] * numbers_per_pixel(spec)))
