"""How much memory a forward pass will take, before it is run."""

import math
from collections.abc import Sequence

import torch

from distill3r_core.models.multiview.chunks import head_chunk_of
from distill3r_core.models.multiview.cost import network_of
from distill3r_core.models.multiview.spec import MultiviewSpec
from distill3r_core.models.tokens.chunks import encoder_chunk
from distill3r_core.nn.counts import MemoryEstimate, dpt_numbers, dpt_packed_numbers
from distill3r_core.nn.dpt import hooked_layers
from distill3r_core.nn.kernels.sliced import slice_size
from distill3r_core.nn.plane_counts import with_slack

_FLOAT = 4  # bytes
_MLP = 4  # hidden channels over channels
_BLOCK = 16  # channels that convolutions on a CPU keep side by side, filled up


def estimate_bytes(
    spec: MultiviewSpec,
    sizes: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    head_chunk: int | None = None,
    heads: int = 2,
) -> MemoryEstimate:
    """Peak memory of a pass over views of these sizes, beyond the weights.

    Args:
        sizes: Rows and columns of every view.
        device: Device of the pass; its chunks are taken where none is given.
        dtype: Type of the matrix products, see `lower_precision`.
        head_chunk: Views that go through a head at once.
        heads: Number of heads that are run, 1 or 2.
    """
    pixels = sum(math.prod(size) for size in sizes)
    area = spec.encoder.patch**2
    tokens = pixels // area
    largest = max(sizes, key=math.prod)
    views = len(sizes)
    chunk = min(head_chunk or head_chunk_of(spec, largest, device, views=views), views)
    patches = math.prod(largest) // area
    seen = min(encoder_chunk(patches, device), views) * patches
    width, product = spec.fusion.width, dtype.itemsize
    hooks = len({*hooked_layers(spec.fusion.depth)} - {0})
    kept = tokens * (spec.encoder.width + hooks * width) * product
    # A block holds queries, keys, values, their mixture twice, and its own result.
    block = tokens * width * (5 * product + _FLOAT)
    block += min(tokens, slice_size(device)) * width * (2 * _MLP * product + 2 * _FLOAT)
    encoder = seen * spec.encoder.width * ((5 + 2 * _MLP) * product + 3 * _FLOAT)
    # A convolutional stem holds three maps at half the resolution.
    channels = -(-(spec.encoder.stem_width or 0) // _BLOCK) * _BLOCK
    encoder = max(encoder, seen * area * (3 * channels // 4) * product)
    encoder += seen * area * 3 * _FLOAT  # the images, normalized
    counted, patch = network_of(spec).head, spec.encoder.patch
    grid = (largest[0] // patch, largest[1] // patch)
    head = (chunk * dpt_numbers(counted, grid, patch=patch) + dpt_packed_numbers(counted)) * product
    # The memory of the fusion is free again when the heads' outputs are allocated.
    outputs = pixels * 4 * heads * _FLOAT
    working = max(encoder, block - outputs, head)
    return MemoryEstimate(
        images=2 * pixels * 3 * _FLOAT,
        outputs=outputs,
        tokens=kept,
        working=with_slack(float(working)),
    )
