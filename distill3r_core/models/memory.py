"""How much memory a forward pass will take, before it is run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from distill3r_core.models.chunks import encoder_chunk, head_chunk_of
from distill3r_core.models.spec import PATCH, StudentSpec
from distill3r_core.models.stem import STEM_WIDTH
from distill3r_core.nn.dpt import hooked_layers
from distill3r_core.nn.sliced import slice_size

_FLOAT = 4  # bytes
_MLP = 4  # hidden channels over channels
_BLOCK = 16  # channels that convolutions on a CPU keep side by side, filled up
_SLACK = 1.15  # scratch of convolutions, fragments of the allocator; measured


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the highest point of a pass without gradients.

    Args:
        images: The input, which comes as a list, and as one tensor.
        outputs: Points and confidences of the heads that were asked for.
        tokens: What is kept for the heads, of all views.
        working: The largest working set of any part: encoder, a block of the fusion, a head.
    """

    images: int
    outputs: int
    tokens: int
    working: int

    @property
    def total(self) -> int:
        """All of it, on top of the weights."""
        return self.images + self.outputs + self.tokens + self.working


def estimate_bytes(
    spec: StudentSpec,
    sizes: Sequence[tuple[int, int]],
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    head_chunk: int | None = None,
    heads: int = 2,
) -> MemoryEstimate:
    """What a pass over views of these sizes takes at its highest, beyond the weights.

    Args:
        spec: Of the student.
        sizes: Rows and columns of every view.
        device: Where it computes; its chunks are taken where none is given.
        dtype: Of the matrix products, see `lower_precision`.
        head_chunk: Views that go through a head at once.
        heads: Heads that are asked for, 1 or 2.
    """
    pixels = sum(math.prod(size) for size in sizes)
    tokens = pixels // PATCH**2
    largest = max(sizes, key=math.prod)
    views = len(sizes)
    chunk = min(head_chunk or head_chunk_of(spec, largest, device, views=views), views)
    patches = math.prod(largest) // PATCH**2
    seen = min(encoder_chunk(patches, device), views) * patches
    width, product = spec.fusion_width, dtype.itemsize
    hooks = len({*hooked_layers(spec.fusion_depth)} - {0})
    kept = tokens * (spec.encoder_width + hooks * width) * product
    # A block holds queries, keys, values, their mixture twice, and its own result.
    block = tokens * width * (5 * product + _FLOAT)
    block += min(tokens, slice_size(device)) * width * (2 * _MLP * product + 2 * _FLOAT)
    encoder = seen * spec.encoder_width * ((5 + 2 * _MLP) * product + 3 * _FLOAT)
    encoder = max(encoder, seen * PATCH**2 * _stem_numbers(spec) * product)
    encoder += seen * PATCH**2 * 3 * _FLOAT  # the pictures, normalized
    # Convolutions pack their weights anew on every call.
    head = (chunk * _head_numbers(spec, largest) + _packed_numbers(spec)) * product
    # The fusion is over when the heads' outputs are made.
    outputs = pixels * 4 * heads * _FLOAT
    working = max(encoder, block - outputs, head)
    return MemoryEstimate(
        images=2 * pixels * 3 * _FLOAT, outputs=outputs, tokens=kept, working=int(_SLACK * working)
    )


def _stem_numbers(spec: StudentSpec) -> int:
    """Numbers that the stem holds for a pixel: three maps at half the resolution."""
    if spec.stem == "patch":
        return 0
    channels = -(-STEM_WIDTH // _BLOCK) * _BLOCK
    return 3 * channels // 4


def _head_numbers(spec: StudentSpec, size: tuple[int, int]) -> int:
    """Numbers that a head holds for one view, at the highest of its last steps."""
    pixels = math.prod(size)
    finest = 64 * pixels // PATCH**2  # the merged map has 8 x 8 numbers per patch and channel
    narrowing = finest * (spec.head_features + spec.head_tail) + finest // 4 * spec.head_features
    refining = spec.head_tail * (finest + 2 * pixels)
    return max(narrowing, refining) + 8 * pixels


def _packed_numbers(spec: StudentSpec) -> int:
    """Weights of a head's larger convolutions."""
    features, tail = spec.head_features, spec.head_tail
    last = spec.head_layers[3]
    inputs = sum(spec.head_layers) + 14 * features + tail
    return 9 * (features * inputs + last * last + tail * tail)
