"""Arithmetic and memory of a pair student."""

import math
from collections.abc import Iterator, Sequence

import torch

from distill3r_core.models.encoders.mobilenet import MobileNetSpec, convolutions
from distill3r_core.models.encoders.vit import VitSpec
from distill3r_core.models.pairs.chunks import pair_chunk_of
from distill3r_core.models.pairs.spec import PATCH, PairSpec
from distill3r_core.models.student import HeadName
from distill3r_core.models.tokens.chunks import encoder_chunk
from distill3r_core.nn.counts import (
    Dpt,
    MemoryEstimate,
    Part,
    attention_part,
    block_parts,
    conv_part,
    dpt_numbers,
    dpt_packed_numbers,
    dpt_parts,
    linear_part,
    patches_part,
)
from distill3r_core.nn.plane_counts import block_numbers, repeated, with_slack

_FLOAT = 4  # bytes
_MAPS = 4  # numbers of a pixel: a point and its confidence
_STEM_NUMBERS = 38  # numbers per pixel around the first widened map of MobileNet


def flop_parts(
    spec: PairSpec, views: int, size: tuple[int, int], *, head: HeadName = "both"
) -> tuple[Part, ...]:
    """The parts of one forward pass over `views` views of `size` (rows, columns)."""
    grid = (size[0] // PATCH, size[1] // PATCH)
    width, tokens = spec.decoder.width, grid[0] * grid[1]
    products, _ = block_parts("decoder", tokens, width)
    block = (
        products,
        linear_part("decoder/mlp", tokens, width, int(width * spec.decoder.mlp_ratio)).times(2),
        attention_part("decoder", tokens, width),
        # Queries, keys, values and the projection of attention to the other view, and its scores.
        linear_part("decoder/cross products", tokens, width, width).times(4),
        attention_part("decoder/cross", tokens, width),
    )
    embed = linear_part("decoder/embed", tokens, spec.token_width, width)
    side = (embed, *repeated(block, spec.decoder.depth))  # the decoder on one side of a pair
    head_parts = dpt_parts(_head_of(spec), (spec.token_width, *[width] * 3), grid, patch=PATCH)
    pairs = max(views - 1, 1)
    turned = 0 if head == "global" or views == 1 else pairs  # pairs with the anchor second
    first_maps = pairs + turned
    second_maps = 0 if head == "local" or views == 1 else pairs
    return (
        *repeated(tuple(_encoder_parts(spec, size)), views),
        *repeated(side, 2 * (pairs + turned)),
        *repeated(tuple(head_parts), first_maps + second_maps),
    )


def _encoder_parts(spec: PairSpec, size: tuple[int, int]) -> Iterator[Part]:
    """The encoder and the adapter on one view."""
    encoder, patches = spec.encoder, size[0] // PATCH * (size[1] // PATCH)
    if isinstance(encoder, MobileNetSpec):
        for source, target, taps in convolutions(size):
            yield conv_part("encoder/convolutions", source, target, taps=taps)
    else:
        vit = isinstance(encoder, VitSpec)
        kernel, tokens = (encoder.kernel, patches + 1) if vit else (PATCH, patches)
        yield patches_part("encoder/patches", patches, kernel**2, encoder.width)
        block = (
            *block_parts("encoder", tokens, encoder.width),
            attention_part("encoder", tokens, encoder.width),
        )
        yield from repeated(block, encoder.depth)
    if spec.adapter:
        yield linear_part("encoder/adapter", patches, encoder.width, spec.decoder.width)


def _head_of(spec: PairSpec) -> Dpt:
    return Dpt(spec.heads.layers, spec.heads.features, spec.heads.tail)


def estimate_pair_bytes(
    spec: PairSpec,
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
        head_chunk: Pairs that go through decoder and heads at once.
        heads: Number of maps of each view, 1 or 2.
    """
    pixels, views = sum(math.prod(size) for size in sizes), len(sizes)
    largest = max(sizes, key=math.prod)
    grid = (largest[0] // PATCH, largest[1] // PATCH)
    patches, product = grid[0] * grid[1], dtype.itemsize
    chunk = head_chunk or pair_chunk_of(spec, largest, device, views=views)
    chunk = min(chunk, max(views - 1, 1))
    tokens = pixels // PATCH**2 * spec.token_width * _FLOAT
    # The anchor's tokens once for each pair, and the layers that the heads of both sides read.
    tokens += chunk * patches * (2 * spec.token_width + 6 * spec.decoder.width) * _FLOAT
    seen = min(encoder_chunk(patches, device), views) * patches
    encoder = seen * PATCH**2 * 2 * 3 * _FLOAT  # the images, normalized
    if isinstance(spec.encoder, MobileNetSpec):
        encoder += seen * PATCH**2 * _STEM_NUMBERS * _FLOAT
    else:
        encoder += block_numbers(seen, spec.encoder.width) * product
    decoder = 2 * block_numbers(chunk * patches, spec.decoder.width) * product
    counted = _head_of(spec)
    head = (chunk * dpt_numbers(counted, grid, patch=PATCH) + dpt_packed_numbers(counted)) * product
    # Maps come out one pair after the other and are then put side by side.
    outputs = 2 * pixels * _MAPS * heads * _FLOAT
    return MemoryEstimate(
        images=2 * pixels * 3 * _FLOAT,
        outputs=outputs,
        tokens=tokens,
        working=with_slack(float(max(encoder, decoder, head))),
    )
