"""Which points of a reconstruction are worth keeping: pure functions over flat lists of points."""

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

_SMALLEST_CUBE = 1e-37  # parts all points of single precision, and no quotient overflows


def above_percentile(confidence: Float[np.ndarray, "M"], percent: float) -> Bool[np.ndarray, "M"]:
    """True for all but the lowest `percent` percent; points that tie with the lowest kept stay.

    Args:
        confidence: Confidence of all compared points, in [1, inf).
    """
    drop = int(len(confidence) * percent / 100)
    if drop == 0:
        return np.ones(len(confidence), bool)
    return confidence >= np.partition(confidence, drop)[drop]


def smooth_depth(depth: Float[Tensor, "H W"], tolerance: float) -> Bool[Tensor, "H W"]:
    """True where depth does not jump: no neighbor of the 3x3 around a pixel is far off.

    A network's depth slides from foreground to background within a few pixels; the points between
    the two surfaces belong to neither.

    Args:
        depth: z in the camera's frame. Pixels at or behind the camera are never smooth.
        tolerance: The largest difference within the 3x3, as a share of the pixel's depth.
    """
    padded = functional.pad(depth[None, None], (1, 1, 1, 1), mode="replicate")
    highest = functional.max_pool2d(padded, 3, stride=1)[0, 0]
    lowest = -functional.max_pool2d(-padded, 3, stride=1)[0, 0]
    return (depth > 0) & (highest - lowest <= tolerance * depth)


def one_per_voxel(
    points: Float[np.ndarray, "M 3"], confidence: Float[np.ndarray, "M"], size: float
) -> Int64[np.ndarray, "K"]:
    """The most confident point of every cube that holds one, as ascending indices.

    Args:
        points: Finite.
        confidence: Ties go to the earlier point.
        size: Edge of the cubes, in the points' unit.
    """
    if not len(points):
        return np.empty(0, np.int64)
    size = max(size, _SMALLEST_CUBE)
    cells = np.floor((points.astype(np.float64) - points.min(axis=0)) / size)
    # Cube by cube, the most confident first.
    order = np.lexsort((-confidence, *cells.T))
    first = np.zeros(len(order), bool)
    first[0] = True
    for column in cells.T:
        sorted_column = column[order]
        first[1:] |= sorted_column[1:] != sorted_column[:-1]
    return np.sort(order[first])


def at_most(count: int, most: int, *, seed: int) -> Int64[np.ndarray, "K"]:
    """Ascending indices of at most `most` of `count` points, drawn without preference."""
    if count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(seed).choice(count, size=most, replace=False, shuffle=False)
    return np.sort(drawn)
