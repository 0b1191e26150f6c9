"""Second differences of planes modulo their word size, and the sums that undo them.

The residual `v[i, j] - v[i, j-1] - v[i-1, j] + v[i-1, j-1]` of a smooth map's float16 bit patterns
is small nearly everywhere, even across binades, so most of it fits eight bits.
"""

import numpy as np
import torch
from jaxtyping import Bool, Integer

Planes = Integer[np.ndarray, "C H W"]  # uint8 or uint16, wrapping
Rows = Integer[np.ndarray, "H C W"]

_SERIAL = 32767  # values; from one more on, torch starts its threads
_SIGNED = {np.dtype(np.uint8): np.int8, np.dtype(np.uint16): np.int16}


def second_differences(planes: Planes, mask: Bool[np.ndarray, "H W"] | None = None) -> Planes:
    """Residuals of the planes; neighbours outside count as zero.

    Args:
        planes: Unsigned words; differences wrap around.
        mask: Pixels that matter; None: all. The others get the residual zero, whatever is there.
    """
    if mask is None or mask.all():
        residual = planes.copy()
        residual[:, 1:] -= planes[:, :-1]
        across = residual[..., :-1].copy()
        residual[..., 1:] -= across
        return residual
    return _masked_differences(planes, mask)


def sum_rows(rows: Rows) -> None:
    """Running sums over the first axis, in place."""
    # Pairs, pairs of pairs, and down again (Brent and Kung 1982): 16 calls for 224 rows. A loop
    # over the rows takes 223, and each lets go of Python's lock and asks for it again: four threads
    # that read waited for each other (measured: 19 instead of 34 samples a second).
    flat = rows.reshape(len(rows), -1)
    step = 1
    while step < len(flat):
        _add_above(flat, first=2 * step - 1, step=step)
        step *= 2
    while step > 1:
        step //= 2
        _add_above(flat, first=3 * step - 1, step=step)


def _add_above(rows: Integer[np.ndarray, "H W"], *, first: int, step: int) -> None:
    """Add to every second row of those `step` apart, from `first` on, the one above."""
    below = rows[first :: 2 * step]
    below += rows[first - step :: 2 * step][: len(below)]


def sum_columns(rows: Rows, planes: Planes) -> None:
    """Running sums over the columns of `rows`, written into `planes` of the same word size."""
    # torch has the fastest scan of short words.
    word = _SIGNED[rows.dtype]
    source = torch.from_numpy(rows.view(word))
    result = torch.from_numpy(planes.view(word)).permute(1, 0, 2)
    height, count, width = source.shape
    if torch.get_num_threads() == 1:
        torch.cumsum(source, -1, dtype=source.dtype, out=result)
        return
    # Many threads read at once: none of them is to start a team of its own.
    step = max(1, _SERIAL // (count * width))
    for top in range(0, height, step):
        part = slice(top, top + step)
        torch.cumsum(source[part], -1, dtype=source.dtype, out=result[part])


def _masked_differences(planes: Planes, mask: Bool[np.ndarray, "H W"]) -> Planes:
    """Residuals that are zero wherever the mask is False.

    A reader sums columns over what it has summed over rows. So a row's difference to the row above
    (as the reader sees it) is repeated from the last valid pixel on the left.
    """
    height, width = mask.shape
    residual = np.empty_like(planes)
    above = np.zeros((len(planes), width), planes.dtype)
    columns = np.arange(width)
    for row in range(height):
        down = planes[:, row] - above
        if not mask[row].all():
            source = np.maximum.accumulate(np.where(mask[row], columns, -1))
            down = np.where(source >= 0, down[:, np.maximum(source, 0)], 0).astype(planes.dtype)
        residual[:, row, 0] = down[:, 0]
        residual[:, row, 1:] = down[:, 1:] - down[:, :-1]
        above += down
    return residual
