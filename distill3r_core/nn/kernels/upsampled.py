"""A 3x3 convolution of an upsampled map, for CPUs: the same function with half the arithmetic.

Bilinear upsampling works on rows and columns apart, and a 3x3 kernel is three 1x3 kernels on
neighboring rows. So only the columns are upsampled before the convolutions, which then see a
fraction of the rows; interpolating the rows and adding up the three results is one product with a
matrix that is zero but for a narrow band.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

_BAND = 16  # rows of the result that are made by one product


def convolve_upsampled(
    x: Float[Tensor, "n C h w"],
    weight: Float[Tensor, "D C 3 3"],
    bias: Float[Tensor, "D"],
    size: tuple[int, int],
) -> Float[Tensor, "n D H W"]:
    """`conv2d(upsample(x, size), weight, bias, padding=1)`, without gradients.

    Args:
        size: Rows and columns of the upsampled map.
    """
    count, _, low, _ = x.shape
    rows, columns = size
    wide = interpolate(x, (low, columns), mode="bilinear", align_corners=True)
    parts = [  # what each row of the kernel sees, (n, h, W D)
        conv2d(wide, weight[:, :, row : row + 1], padding=(0, 1)).permute(0, 2, 3, 1).flatten(2)
        for row in range(3)
    ]
    mixing = _row_mixing(low, rows, x)
    result = bias.repeat(count, rows, columns)  # (n, H, W D)
    for start in range(0, rows, _BAND):
        band = slice(start, start + _BAND)
        used = mixing[:, band].any(1).any(0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        for part, matrix in zip(parts, mixing[:, band, first:last], strict=True):
            for item in range(count):
                result[item, band].addmm_(matrix, part[item, first:last])
    return result.unflatten(2, (columns, -1)).permute(0, 3, 1, 2)


def _row_mixing(low: int, high: int, like: Tensor) -> Float[Tensor, "3 H h"]:
    """For each row of a kernel, how much of each source row goes into each row of the result.

    Corners are aligned; beyond the first and the last row there is nothing.
    """
    # In float32, as torch computes its sample positions.
    step = torch.tensor((low - 1) / max(high - 1, 1), dtype=torch.float32)
    position = torch.arange(high) * step
    below = position.long().clamp(max=low - 1)
    above = (below + 1).clamp(max=low - 1)
    share = (position - below).to(like.dtype)
    plain = torch.zeros(high + 2, low, dtype=like.dtype)  # an empty row on either side
    row = torch.arange(1, high + 1)
    plain[row, below] += 1 - share
    plain[row, above] += share
    return torch.stack([plain[offset : offset + high] for offset in range(3)])
