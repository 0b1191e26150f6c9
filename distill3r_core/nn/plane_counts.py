"""How much arithmetic and memory the heads of `plane_dpt` and a DINOv2 trunk take."""

from collections.abc import Iterator, Sequence

from distill3r_core.nn.counts import (
    Part,
    attention_part,
    block_parts,
    conv_part,
    level_pixels,
    patches_part,
)
from distill3r_core.nn.dino import PATCH_SIZE

LEVELS = ("4x", "2x", "1x", "0.5x")  # maps of a head, from the finest to the coarsest
HIDDEN = 32  # channels before the last convolution of a tail
_SKETCHES = 11  # numbers per token and channel that a block holds: its input, MLP, their norms
_SLACK = 1.15  # scratch of convolutions, fragments of the allocator; measured


def repeated(parts: Sequence[Part], count: int) -> tuple[Part, ...]:
    """Each part `count` times."""
    return tuple(part.times(count) for part in parts)


def blocks(name: str, tokens: int, width: int, *, groups: int, depth: int) -> tuple[Part, ...]:
    """Transformer blocks, attention included.

    Args:
        tokens: Tokens that see each other.
        width: Channels of a token.
        groups: How many such sets of tokens there are, usually one per view.
        depth: Blocks.
    """
    one = (*block_parts(name, tokens, width), attention_part(name, tokens, width))
    return repeated(one, groups * depth)


def trunk_parts(grid: tuple[int, int], width: int, *, depth: int, special: int) -> tuple[Part, ...]:
    """`DinoTrunk` on one view.

    Args:
        grid: Rows and columns of patches.
        width: Channels of a token.
        depth: Blocks.
        special: Class token and registers.
    """
    patches = grid[0] * grid[1]
    return (
        patches_part("encoder/patches", patches, PATCH_SIZE**2, width),
        *blocks("encoder", patches + special, width, groups=1, depth=depth),
    )


def plane_head_parts(
    grid: tuple[int, int],
    *,
    width: int,
    channels: int,
    features: int,
    layer_widths: Sequence[int],
) -> Iterator[Part]:
    """`PlaneHead` on one view, with 1x1 convolutions before the upsampling, as it runs them.

    Args:
        grid: Rows and columns of patches.
        width: Channels of a token.
        channels: Numbers per pixel of the result.
        features: Channels of the merged maps.
        layer_widths: See `plane_dpt.Reassemble`.
    """
    pixels = level_pixels(grid)
    tokens, name = pixels["1x"], "heads/reassemble"
    first, second, _, last = layer_widths
    for inner in layer_widths:
        yield conv_part(name, (tokens, width), (tokens, inner), taps=1)
    # Transposed convolutions: every input value reaches each output of its own square.
    for inner, level in ((first, "4x"), (second, "2x")):
        yield conv_part(name, (tokens, inner), (pixels[level], inner), taps=1)
    yield conv_part(name, (tokens, last), (pixels["0.5x"], last), taps=9)
    for level, inner in zip(LEVELS, layer_widths, strict=True):
        yield conv_part("heads/layers", (pixels[level], inner), (pixels[level], features), taps=9)
    for level in LEVELS:
        here, name = (pixels[level], features), f"heads/fuse {level}"
        units = 1 if level == "0.5x" else 2
        yield conv_part(name, here, here, taps=9).times(2 * units)
        yield conv_part(name, here, here, taps=1)
    full, half = tokens * PATCH_SIZE**2, features // 2
    yield conv_part("heads/conv 8x", (pixels["8x"], features), (pixels["8x"], half), taps=9)
    yield conv_part("heads/conv full", (full, half), (full, HIDDEN), taps=9)
    yield Part("heads/out", 2.0 * full * HIDDEN * channels, 0.0, 4.0 * full * channels)


def block_numbers(tokens: int, width: int) -> int:
    """Numbers that a block holds at its highest, its input included."""
    return _SKETCHES * tokens * width


def plane_head_numbers(grid: tuple[int, int], *, features: int, inputs: int) -> int:
    """Numbers that a `PlaneHead` holds for one view at its highest: in its last convolutions.

    Args:
        grid: Rows and columns of patches.
        features: Channels of the merged maps.
        inputs: Channels of the four maps that the head has reassembled, together.
    """
    pixels = level_pixels(grid)
    full, half = pixels["1x"] * PATCH_SIZE**2, features // 2
    merging = 4 * pixels["4x"] * features + pixels["8x"] * features
    # Upsampled, its codes, and both together; then what the convolution makes of it.
    last = pixels["8x"] * (features + half) + full * (3 * half + 2 * HIDDEN)
    return max(merging, last) + pixels["1x"] * inputs


def with_slack(numbers: int | float) -> int:
    """A working set together with what the machine adds to it."""
    return int(_SLACK * numbers)
