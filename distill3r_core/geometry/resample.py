"""Read a map of values at another size.

A box is the part of the map that is kept: left, top, right, bottom, in its pixels (edges, not
centers); it may have fractions. Maps are (H, W) or (H, W, C).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Box = tuple[float, float, float, float]
_ROUNDING = 1e-6  # of a box that was carried from image to image, in pixels


def whole(values: Shaped[Tensor, "H W *channels"]) -> Box:
    """The box that keeps all of a map."""
    return 0.0, 0.0, float(values.shape[1]), float(values.shape[0])


def resample_nearest(
    values: Shaped[Tensor, "h w *channels"], box: Box, size: tuple[int, int]
) -> Shaped[Tensor, "H W *channels"]:
    """Every result is the value of the one pixel that its center falls into: nothing is mixed."""
    rows, columns = nearest_pixels(values.shape[:2], box, size)
    return values[rows.to(values.device)[:, None], columns.to(values.device)]


def nearest_pixels(
    source: Sequence[int], box: Box, size: tuple[int, int]
) -> tuple[Int[Tensor, "H"], Int[Tensor, "W"]]:
    """The row and the column, in a map of `source` rows and columns, of every result."""
    left, top, right, bottom = box
    rows = _under(_centers(top, bottom, size[0]), source[0])
    return rows, _under(_centers(left, right, size[1]), source[1])


def resample_bilinear(
    values: Float[Tensor, "h w *channels"], box: Box, size: tuple[int, int]
) -> Float[Tensor, "H W *channels"]:
    """Mix the four pixels around each center, whatever lies between them.

    This is what the released exporter does (torch's `interpolate`, bilinear, `align_corners` off,
    no antialias): across the edge of an object it invents points in the air.
    """
    left, top, right, bottom = box
    row, next_row, down = _taps(top, bottom, size[0], values.shape[0])
    column, next_column, across = _taps(left, right, size[1], values.shape[1])
    down = down.to(values)[(..., *[None] * (values.ndim - 1))]
    across = across.to(values)[(..., *[None] * (values.ndim - 2))]
    upper, lower = values[row.to(values.device)], values[next_row.to(values.device)]
    lines = upper * (1 - down) + lower * down  # (H, w, *channels)
    first, second = lines[:, column.to(values.device)], lines[:, next_column.to(values.device)]
    return first * (1 - across) + second * across


def _under(centers: Float[Tensor, "count"], length: int) -> Int[Tensor, "count"]:
    """The pixel under each center; on the border of two it is the second one."""
    return (centers + _ROUNDING).floor().long().clamp(0, length - 1)


def _centers(start: float, stop: float, count: int) -> Float[Tensor, "count"]:
    """Where the centers of `count` equal parts of [start, stop] lie."""
    step = (stop - start) / count
    return start + (torch.arange(count, dtype=torch.float64) + 0.5) * step


def _taps(
    start: float, stop: float, count: int, length: int
) -> tuple[Int[Tensor, "count"], Int[Tensor, "count"], Float[Tensor, "count"]]:
    """The two pixels about each center and the weight of the second, within the box's pixels."""
    first, last = max(0, math.floor(start)), min(length, math.ceil(stop)) - 1
    assert first <= last, "the box keeps nothing of the map"
    # In float32, as torch does: a value near 0 shows the rounding of its weights.
    step = torch.tensor((stop - start) / count)
    position = (start + (torch.arange(count) + 0.5) * step - 0.5).clamp(first, last)
    low = position.floor()
    return low.long(), (low.long() + 1).clamp(max=last), position - low
