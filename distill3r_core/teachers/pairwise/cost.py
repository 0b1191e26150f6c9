"""Arithmetic and memory of DUSt3R and MASt3R over the pairs of a graph."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distill3r_core.nn.counts import (
    Dpt,
    MemoryEstimate,
    Part,
    attention_part,
    block_parts,
    dpt_parts,
    level_pixels,
    linear_part,
    patches_part,
)
from distill3r_core.nn.pairs.official_names import DESCRIPTORS
from distill3r_core.nn.plane_counts import block_numbers, blocks, repeated, with_slack
from distill3r_core.teachers.cost import CPU, TeacherCost
from distill3r_core.teachers.pairwise.graph import pairs_of
from distill3r_core.teachers.pairwise.names import read_state, size_of
from distill3r_core.teachers.pairwise.network import PairSize

NUMBERS_PER_PIXEL = 8  # of a pair: points and confidence of both views


def flop_parts(
    network: PairSize, views: int, size: tuple[int, int], *, settings: Any
) -> tuple[Part, ...]:
    """The parts of a prediction: each view through the encoder, each pair through the decoder.

    The alignment of all views is not counted: it has no products, and its time is that of memory.
    """
    patch, width = network.patch_size, network.decoder_width
    grid = (size[0] // patch, size[1] // patch)
    patches = grid[0] * grid[1]
    block = (
        *block_parts("decoder", patches, width),
        attention_part("decoder", patches, width),
        # Queries, keys, values and the projection of attention to the other view, and its scores.
        linear_part("decoder/cross products", patches, width, width).times(4),
        attention_part("decoder/cross", patches, width),
    )
    # The decoder on one side of a pair, and the head of points; descriptors are not run.
    side = [linear_part("decoder/embed", patches, network.width, width)]
    side += repeated(block, network.decoder_depth)
    if network.head == "linear":
        side.append(linear_part("heads/out", patches, width, 4 * patch**2))
    else:
        head = Dpt(network.layer_widths, network.features, network.features // 2)
        side += dpt_parts(head, (network.width, width, width, width), grid, patch=patch)
    # One view is paired with itself.
    pairs = 1 if views == 1 else len(pairs_of(views, settings.graph))
    return (
        patches_part("encoder/patches", patches, patch**2, network.width).times(views),
        *blocks("encoder", patches, network.width, groups=views, depth=network.depth),
        *repeated(side, 2 * pairs),
    )


def estimate_memory(
    network: PairSize,
    views: int,
    size: tuple[int, int],
    *,
    settings: Any,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> MemoryEstimate:
    """Bytes of a prediction at its highest, beyond the weights, in float32.

    How the pairs are kept, and the alignment, is planned beside it: see `storage.plan_storage`.
    """
    patch, pixels = network.patch_size, size[0] * size[1]
    grid = (size[0] // patch, size[1] // patch)
    patches = grid[0] * grid[1]
    pairs = 1 if views == 1 else len(pairs_of(views, settings.graph))
    head = 0
    if network.head == "dpt":
        finest, features = level_pixels(grid)["8x"], network.features
        head = 4 * (finest * (features + features // 2) + 2 * pixels * (features // 2))
    encoder = dtype.itemsize * block_numbers(patches, network.width)
    decoder = dtype.itemsize * 2 * block_numbers(patches, network.decoder_width)
    return MemoryEstimate(
        images=views * math.prod(size) * 3 * 4,
        outputs=2 * pairs * pixels * NUMBERS_PER_PIXEL * 4,
        tokens=views * patches * network.width * dtype.itemsize,
        working=with_slack(max(encoder, decoder, head)),
    )


def cost_of(published: PairSize) -> TeacherCost:
    """What the network of one release takes."""

    def read_size(tensors: Mapping[str, Tensor]) -> PairSize:
        """Sizes of a network with the same heads; its attention heads as without a description."""
        size = size_of(read_state(tensors, descriptors=True))
        if bool(size.descriptors) != bool(published.descriptors):
            raise KeyError(DESCRIPTORS[0])
        if size.head != published.head:
            raise KeyError(f"the {published.head} head")
        return size

    return TeacherCost(published, read_size, flop_parts, estimate_memory)
