"""A global map from a local one, bit for bit the same on every machine.

Multiplications and additions are separate float32 operations in a fixed order: a matrix product
may fuse or reorder them, which changes one float16 in a hundred thousand.
"""

import numpy as np
import torch
from jaxtyping import Float32, UInt16

Half = UInt16[np.ndarray, "3 H W"]  # bit patterns of float16

# Values at a time: the workspace stays in the second-level cache, and torch starts no threads.
_STRIP = 32767


def apply_to_half(points: Half, transform: Float32[np.ndarray, "3 4"], out: Half) -> None:
    """`out = float16(A @ points + t)`, with `transform` = [A | t].

    Args:
        points: x, y and z planes.
        transform: From the frame of `points` to that of `out`.
        out: Where the result goes; not the memory of `points`.
    """
    _, height, width = points.shape
    column = [np.ascontiguousarray(transform[:, k]).reshape(3, 1, 1) for k in range(4)]
    source, result = (torch.from_numpy(a.view(np.float16)) for a in (points, out))
    strip = min(max(1, _STRIP // (3 * width)), height)
    wide, total = torch.empty(3, strip, width), torch.empty(3, strip, width)
    product = np.empty((3, strip, width), np.float32)
    # Outside a mask there may be any word, infinities and NaN included.
    with np.errstate(all="ignore"):
        for top in range(0, height, strip):
            rows = min(strip, height - top)
            wide[:, :rows].copy_(source[:, top : top + rows])
            xyz, sums, term = wide.numpy()[:, :rows], total.numpy()[:, :rows], product[:, :rows]
            np.multiply(xyz[0], column[0], out=sums)
            for axis in (1, 2):
                np.multiply(xyz[axis], column[axis], out=term)
                np.add(sums, term, out=sums)
            np.add(sums, column[3], out=sums)
            result[:, top : top + rows].copy_(total[:, :rows])
