"""Triton kernels for what a dense head does between its convolutions, one pass over memory each.

Maps are (n, C, H, W) in channels-last memory, so that a pixel's channels lie side by side and are
read together. Sums are in float32 whatever the maps are in.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

_TILE = 2048  # numbers that a program handles at once


@triton.jit
@no_type_check
def _source_of(place, scale, low):
    """Where a row or column of the result lies in the source: below, above, share of above."""
    position = place.to(tl.float32) * scale
    below = tl.minimum(position.to(tl.int32), low - 1)
    return below, tl.minimum(below + 1, low - 1), position - below.to(tl.float32)


@triton.jit
@no_type_check
def _upsample(
    source, target, total, rows, columns, low_rows, low_columns, row_scale, column_scale, channels,
    bias, BIASED: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, CHANNELS)
    inside = (pixel < total)[:, None] & (channel < channels)[None, :]
    top, bottom, down = _source_of(pixel // columns % rows, row_scale, low_rows)
    left, right, across = _source_of(pixel % columns, column_scale, low_columns)
    first = (pixel // (rows * columns)).to(tl.int64) * low_rows * low_columns
    upper, lower = first + top * low_columns, first + bottom * low_columns
    down, across = down[:, None], across[:, None]
    a = tl.load(source + ((upper + left) * channels)[:, None] + channel, inside).to(tl.float32)
    b = tl.load(source + ((upper + right) * channels)[:, None] + channel, inside).to(tl.float32)
    c = tl.load(source + ((lower + left) * channels)[:, None] + channel, inside).to(tl.float32)
    d = tl.load(source + ((lower + right) * channels)[:, None] + channel, inside).to(tl.float32)
    value = (1 - down) * ((1 - across) * a + across * b) + down * ((1 - across) * c + across * d)
    if BIASED:
        value += tl.load(bias + channel, channel < channels, other=0.0).to(tl.float32)[None, :]
    place = target + (pixel.to(tl.int64) * channels)[:, None] + channel
    tl.store(place, value.to(target.dtype.element_ty), inside)


@triton.jit
@no_type_check
def _upsample_backward(
    gradient, result, total, rows, columns, low_rows, low_columns, row_scale, column_scale,
    channels, REACH_DOWN: tl.constexpr, REACH_ACROSS: tl.constexpr,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Each source pixel gathers from the results that read it: no atomics, always one sum."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, CHANNELS)
    inside = (pixel < total)[:, None] & (channel < channels)[None, :]
    low_row, low_column = pixel // low_columns % low_rows, pixel % low_columns
    first = (pixel // (low_rows * low_columns)).to(tl.int64) * rows * columns
    start_row = tl.maximum(((low_row - 1) / row_scale).to(tl.int32), 0)
    start_column = tl.maximum(((low_column - 1) / column_scale).to(tl.int32), 0)
    value = tl.zeros((PIXELS, CHANNELS), dtype=tl.float32)
    for down in range(REACH_DOWN):
        row = start_row + down
        row_share = 1 - tl.abs(row.to(tl.float32) * row_scale - low_row.to(tl.float32))
        row_share = tl.where(row < rows, tl.maximum(row_share, 0.0), 0.0)
        for across in range(REACH_ACROSS):
            column = start_column + across
            share = 1 - tl.abs(column.to(tl.float32) * column_scale - low_column.to(tl.float32))
            share = row_share * tl.where(column < columns, tl.maximum(share, 0.0), 0.0)
            place = ((first + row * columns + column) * channels)[:, None] + channel
            read = tl.load(gradient + place, inside & (share > 0)[:, None], other=0.0)
            value += share[:, None] * read.to(tl.float32)
    place = result + (pixel.to(tl.int64) * channels)[:, None] + channel
    tl.store(place, value.to(result.dtype.element_ty), inside)


@triton.jit
@no_type_check
def _add_relu(target, bias, total, channels, BLOCK: tl.constexpr):
    """`relu(target + bias)`, number by number, in place."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < total
    value = tl.load(target + place, inside).to(tl.float32)
    value += tl.load(bias + place % channels, inside).to(tl.float32)
    value = tl.where(value < 0, 0.0, value)  # and NaN stays what it is
    tl.store(target + place, value.to(target.dtype.element_ty), inside)


@triton.jit
@no_type_check
def _channel_sum(value, weight, bias, channel, channels, index):
    taps = tl.load(weight + index * channels + channel, channel < channels, other=0.0)
    return tl.sum(value * taps.to(tl.float32)[None, :], axis=1) + tl.load(bias + index)


@triton.jit
@no_type_check
def _maps(
    source, before, weight, bias, points, confidence, total, channels,
    PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Bias, ReLU and a 1x1 convolution to four numbers; of these a point and its confidence."""
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.arange(0, CHANNELS)
    known = pixel < total
    place = pixel.to(tl.int64)
    inside = known[:, None] & (channel < channels)[None, :]
    value = tl.load(source + (place * channels)[:, None] + channel, inside, other=0.0)
    added = tl.load(before + channel, channel < channels, other=0.0).to(tl.float32)
    value = value.to(tl.float32) + added[None, :]
    value = tl.where(value < 0, 0.0, value)  # and NaN stays what it is
    x = _channel_sum(value, weight, bias, channel, channels, 0)
    y = _channel_sum(value, weight, bias, channel, channels, 1)
    z = _channel_sum(value, weight, bias, channel, channels, 2)
    logit = _channel_sum(value, weight, bias, channel, channels, 3)
    r = tl.sqrt(x * x + y * y + z * z)
    # (exp(r) - 1) / r; the difference loses its digits where r is small, the series there does not
    series = 1 + r / 2 * (1 + r / 3 * (1 + r / 4 * (1 + r / 5 * (1 + r / 6 * (1 + r / 7)))))
    factor = tl.where(r < 0.5, series, (tl.exp(r) - 1) / tl.maximum(r, 0.5))
    tl.store(points + 3 * place, x * factor, known)
    tl.store(points + 3 * place + 1, y * factor, known)
    tl.store(points + 3 * place + 2, z * factor, known)
    tl.store(confidence + place, 1 + tl.exp(logit), known)


class Upsampled(torch.autograd.Function):
    """Bilinear upsampling with aligned corners; sides of the source above 1."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "n C h w"], size: tuple[int, int]
    ) -> Float[Tensor, "n C H W"]:
        """The map at another size."""
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.low = (x.shape[-2], x.shape[-1])
        y = _empty(x, size)
        _over_pixels(_upsample, x, y, size, ctx.low, bias=x, BIASED=False)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Float[Tensor, "n C h w"], None]:
        """The gradient of the source."""
        (above,) = gradients
        above = above.contiguous(memory_format=torch.channels_last)
        size = (above.shape[-2], above.shape[-1])
        down, across = (
            int(2 / _scale(few, many)) + 2 for few, many in zip(ctx.low, size, strict=True)
        )
        x = _empty(above, ctx.low)
        reach = {"REACH_DOWN": down, "REACH_ACROSS": across}
        _over_pixels(_upsample_backward, above, x, size, ctx.low, **reach)
        return x, None


def upsample_and_add(
    x: Float[Tensor, "n C h w"], size: tuple[int, int], bias: Float[Tensor, " C"]
) -> Float[Tensor, "n C H W"]:
    """What `Upsampled` gives plus a number for each channel; without a gradient."""
    x = x.contiguous(memory_format=torch.channels_last)
    y = _empty(x, size)
    _over_pixels(_upsample, x, y, size, (x.shape[-2], x.shape[-1]), bias=bias, BIASED=True)
    return y


def add_relu(
    target: Float[Tensor, "n C h w"], bias: Float[Tensor, " C"]
) -> Float[Tensor, "n C h w"]:
    """`relu(target + bias)`; the memory of `target` may take the result."""
    target = target.contiguous(memory_format=torch.channels_last)
    total = target.numel()
    grid = (triton.cdiv(total, _TILE),)
    with torch.cuda.device_of(target):  # Triton starts on the current GPU, whatever it is given
        _add_relu[grid](target, bias, total, target.shape[1], BLOCK=_TILE)
    return target


def maps_from(
    features: Float[Tensor, "n C H W"],
    before: Float[Tensor, " C"],
    weight: Float[Tensor, "4 C"],
    bias: Float[Tensor, "4"],
) -> tuple[Float[Tensor, "n H W 3"], Float[Tensor, "n H W"]]:
    """Points and confidences in float32, see `nn.outputs`, of `relu(features + before)`.

    Args:
        features: What the last 3x3 convolution gives without its bias.
        before: That bias.
        weight: Weight of the last 1x1 convolution.
        bias: Bias of the last 1x1 convolution.
    """
    count, channels, rows, columns = features.shape
    features = features.contiguous(memory_format=torch.channels_last)
    points = features.new_empty((count, rows, columns, 3), dtype=torch.float32)
    confidence = features.new_empty((count, rows, columns), dtype=torch.float32)
    total, blocks = count * rows * columns, _blocks(channels)
    grid = (triton.cdiv(total, blocks["PIXELS"]),)
    with torch.cuda.device_of(features):
        _maps[grid](
            features, before, weight.contiguous(), bias, points, confidence, total, channels,
            **blocks,
        )  # fmt: skip
    return points, confidence


def _empty(like: Tensor, size: tuple[int, int]) -> Tensor:
    """Memory for a map of another size, channels last."""
    shape = (*like.shape[:2], *size)
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _over_pixels(
    kernel: "triton.JITFunction",
    source: Tensor,
    target: Tensor,
    size: tuple[int, int],
    low: tuple[int, int],
    **more: Any,
) -> None:
    channels = source.shape[1]
    total, blocks = target.numel() // channels, _blocks(channels)
    scales = [_scale(few, many) for few, many in zip(low, size, strict=True)]
    grid = (triton.cdiv(total, blocks["PIXELS"]),)
    with torch.cuda.device_of(source):
        kernel[grid](source, target, total, *size, *low, *scales, channels, **blocks, **more)


def _blocks(channels: int) -> dict[str, int]:
    """Pixels and channels of a program; powers of two."""
    wide = triton.next_power_of_2(channels)
    return {"PIXELS": max(1, _TILE // wide), "CHANNELS": wide}


def _scale(few: int, many: int) -> float:
    """Steps in the source for one step in the result."""
    return (few - 1) / (many - 1)
