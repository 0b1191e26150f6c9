"""How much arithmetic a forward of a multi-view network is, and the least time it can take.

Closed formulas, no torch. One FLOP is one multiply or one add: a product of (M, K) and (K, N) is
2 M K N, attention 4 times queries times keys times width (softmax left out). Memory traffic is
that of an ideal implementation: every convolution and matrix product reads its input once and
writes its output once, all between them is free.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

OUTPUT_BYTES = 4  # maps leave in float32 whatever the network computes in
MLP_RATIO = 4
MAP_CHANNELS = 4  # three coordinates and a confidence
_TAPS = 9  # of a 3x3 convolution


@dataclass(frozen=True)
class Part:
    """One part of a forward, all views together."""

    name: str  # component and operation, `heads/fuse 4x`
    flop: float
    elements: float  # numbers read and written in the precision of the network
    fixed_bytes: float = 0.0  # bytes read and written in a precision of their own

    def times(self, count: int) -> "Part":
        """The same, `count` times."""
        return Part(self.name, self.flop * count, self.elements * count, self.fixed_bytes * count)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the highest point of a pass without gradients, on top of the weights."""

    images: int  # the input, as a list of views and once more as one tensor
    outputs: int  # points and confidences of the heads that are run
    tokens: int
    working: int  # the largest working set of any part: encoder, a block of the fusion, a head

    @property
    def total(self) -> int:
        """Sum of all four."""
        return self.images + self.outputs + self.tokens + self.working


@dataclass(frozen=True)
class Dpt:
    """A dense prediction head (arXiv:2103.13413) as the formulas see it.

    Args:
        layers: Channels of the four reassembled maps, the finest first.
    """

    layers: tuple[int, int, int, int] = (96, 192, 384, 768)
    features: int = 256
    last: int = 128  # channels of the map at full resolution, before and after its 3x3 convolution


@dataclass(frozen=True)
class Network:
    """An encoder per view, a fusion over the tokens of all views, and dense heads.

    Args:
        stem_width: Channels at half the resolution of a stem of three convolutions; None:
            patches become tokens by one.
    """

    patch: int  # pixels of a patch's side
    encoder_width: int
    encoder_depth: int
    extra_tokens: int  # class and register tokens of a view, dropped before the fusion
    fusion_width: int  # channels of the fusion's tokens, which the heads read
    fusion_depth: int  # its blocks, each attending over all views
    head: Dpt = Dpt()
    heads: int = 2
    stem_width: int | None = None


def parts(network: Network, views: int, size: tuple[int, int]) -> tuple[Part, ...]:
    """The parts of one forward.

    Args:
        views: At least 1.
        size: Rows and columns of every view, multiples of the patch.
    """
    height, width = size
    rows, columns = height // network.patch, width // network.patch
    patches = rows * columns
    tokens = patches + network.extra_tokens
    wide, fused = network.encoder_width, network.fusion_width
    return (
        *(part.times(views) for part in _stem(network, height * width, patches)),
        *(
            part.times(views * network.encoder_depth)
            for part in block_parts("encoder", tokens, wide)
        ),
        attention_part("encoder", tokens, wide).times(views * network.encoder_depth),
        linear_part("fusion/embed", patches, wide, fused).times(views),
        *(
            part.times(views * network.fusion_depth)
            for part in block_parts("fusion", patches, fused)
        ),
        attention_part("fusion", views * patches, fused).times(network.fusion_depth),
        *(
            part.times(views * network.heads)
            for part in dpt_parts(network.head, (fused,) * 4, (rows, columns), patch=network.patch)
        ),
    )


def total_flop(parts: Iterable[Part]) -> float:
    """Multiplies and adds of one forward."""
    return math.fsum(part.flop for part in parts)


def floor_seconds(
    parts: Iterable[Part],
    *,
    flop_rate: float,
    byte_rate: float,
    item_bytes: int,
) -> float:
    """The least time of one forward: each part as fast as its arithmetic or its traffic allows.

    Args:
        flop_rate: What the device reaches on a large matrix product, FLOP/s.
        byte_rate: What it reaches on a copy, bytes read and written per second.
        item_bytes: Bytes of a number in the precision that the network computes in.
    """
    return math.fsum(
        max(part.flop / flop_rate, (part.elements * item_bytes + part.fixed_bytes) / byte_rate)
        for part in parts
    )


def _stem(network: Network, pixels: int, patches: int) -> tuple[Part, ...]:
    """From the pixels of one view to its tokens."""
    name, wide, area = "encoder/patches", network.encoder_width, network.patch**2
    if network.stem_width is None:
        return (patches_part(name, patches, area, wide),)
    inner, quarter = network.stem_width, pixels // 4
    return (
        conv_part(name, (pixels, 3), (quarter, inner), taps=9),
        conv_part(name, (quarter, inner), (quarter, inner), taps=9),
        conv_part(name, (quarter, inner), (patches, wide), taps=area // 4),
    )


def patches_part(name: str, patches: int, area: int, width: int) -> Part:
    """Patches of `area` RGB pixels that become tokens by one product."""
    return Part(name, 2.0 * 3 * area * patches * width, 3.0 * area * patches + patches * width)


def linear_part(name: str, tokens: int, inputs: int, outputs: int) -> Part:
    """A linear layer over some tokens."""
    return Part(name, 2.0 * tokens * inputs * outputs, 1.0 * tokens * (inputs + outputs))


def block_parts(name: str, tokens: int, width: int) -> tuple[Part, Part]:
    """The products of one transformer block, attention's scores left out."""
    hidden = MLP_RATIO * width
    return (
        # Queries, keys and values, then the projection.
        Part(f"{name}/attention products", 8.0 * tokens * width**2, 6.0 * tokens * width),
        Part(f"{name}/mlp", 4.0 * tokens * width * hidden, 2.0 * tokens * (width + hidden)),
    )


def attention_part(name: str, tokens: int, width: int, others: int | None = None) -> Part:
    """Scores and weighted sums of attention.

    Args:
        tokens: Tokens that attend.
        others: Tokens that are attended to; None: the same ones.
    """
    seen = tokens if others is None else others
    return Part(f"{name}/attention", 4.0 * tokens * seen * width, 2.0 * (tokens + seen) * width)


def level_pixels(grid: tuple[int, int]) -> dict[str, int]:
    """Pixels of a head's maps, which are named by their size relative to the grid of patches."""
    rows, columns = grid
    return {
        "0.5x": math.ceil(rows / 2) * math.ceil(columns / 2),
        **{f"{side}x": side**2 * rows * columns for side in (1, 2, 4, 8)},
    }


def dpt_parts(
    head: Dpt, widths: Sequence[int], grid: tuple[int, int], *, patch: int
) -> Iterator[Part]:
    """One head on one view, in the published order of operations.

    Args:
        widths: Channels of the tokens of the four layers that it reads.
        grid: Rows and columns of patches.
        patch: Pixels of a patch's side.
    """
    rows, columns = grid
    pixels = level_pixels(grid)
    full = rows * columns * patch**2
    tokens, features = pixels["1x"], head.features
    first, second, _, fourth = head.layers

    for width, channels in zip(widths, head.layers, strict=True):
        yield conv_part("heads/reassemble", (tokens, width), (tokens, channels), taps=1)
    # Transposed convolutions: every input value reaches each output of its own square.
    for channels, side in ((first, 4), (second, 2)):
        level = pixels[f"{side}x"]
        yield conv_part("heads/reassemble", (tokens, channels), (level, channels), taps=1)
    yield conv_part("heads/reassemble", (tokens, fourth), (pixels["0.5x"], fourth), taps=9)
    for level, channels in zip(("4x", "2x", "1x", "0.5x"), head.layers, strict=True):
        yield conv_part(
            "heads/layers", (pixels[level], channels), (pixels[level], features), taps=9
        )
    for level, units in (("0.5x", 1), ("1x", 2), ("2x", 2), ("4x", 2)):
        here, name = (pixels[level], features), f"heads/fuse {level}"
        yield conv_part(name, here, here, taps=9).times(2 * units)
        above = (4 * pixels[level], features)
        yield conv_part(name, above, above, taps=1)
    last = head.last
    yield conv_part("heads/conv 8x", (pixels["8x"], features), (pixels["8x"], last), taps=9)
    yield Part("heads/conv full", 18.0 * full * last**2, 1.0 * pixels["8x"] * last)
    written = full * MAP_CHANNELS
    yield Part("heads/out", 2.0 * written * last, 0.0, float(written * OUTPUT_BYTES))


def dpt_numbers(head: Dpt, grid: tuple[int, int], *, patch: int) -> int:
    """Numbers that a head holds for one view at the peak of its last steps.

    Args:
        grid: Rows and columns of patches.
        patch: Pixels of a patch's side.
    """
    pixels, finest = math.prod(grid) * patch**2, level_pixels(grid)["8x"]
    narrowing = finest * (head.features + head.last) + finest // 4 * head.features
    refining = head.last * (finest + 2 * pixels)
    return max(narrowing, refining) + 2 * MAP_CHANNELS * pixels


def dpt_packed_numbers(head: Dpt) -> int:
    """Weights of a head's larger convolutions, which are packed anew on every call on a CPU."""
    features, fourth = head.features, head.layers[3]
    inputs = sum(head.layers) + 14 * features + head.last
    return _TAPS * (features * inputs + fourth * fourth + head.last * head.last)


def conv_part(name: str, source: tuple[int, int], target: tuple[int, int], *, taps: int) -> Part:
    """A convolution from (pixels, channels) to (pixels, channels)."""
    (pixels_in, channels_in), (pixels_out, channels_out) = source, target
    return Part(
        name,
        2.0 * taps * pixels_out * channels_in * channels_out,
        float(pixels_in * channels_in + pixels_out * channels_out),
    )
