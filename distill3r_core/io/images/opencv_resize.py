"""OpenCV's resize of 8-bit images, as Depth Anything 3 was trained with, without OpenCV."""

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn.functional import interpolate


def resize_as_opencv(
    pixels: UInt8[np.ndarray, "H W C"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w C"]:
    """Area average where no side grows, else bicubic interpolation without antialias.

    The average is added up in float32 and in OpenCV's order, columns first, which decides how ties
    are rounded.

    Args:
        size: Rows and columns of the result.
    """
    source = (pixels.shape[0], pixels.shape[1])
    if size == source:
        return pixels
    if size[0] <= source[0] and size[1] <= source[1]:
        columns = _average(pixels.astype(np.float32).swapaxes(0, 1), size[1])
        resized = _average(columns.swapaxes(0, 1), size[0])
    else:
        # torch's kernel is OpenCV's: a = -0.75, pixel centers at +0.5, the rim repeated.
        channels = torch.from_numpy(pixels.astype(np.float64)).movedim(-1, 0)[None]
        resized = interpolate(channels, size, mode="bicubic")[0].movedim(0, -1).numpy()
    return np.rint(resized).clip(0, 255).astype(np.uint8)


def _average(values: Float[np.ndarray, "n k C"], target: int) -> Float[np.ndarray, "target k C"]:
    """The first axis averaged to fewer rows, each by how much of a source row lies in it."""
    source = len(values)
    step = source / target
    starts = np.arange(target) * step
    total = np.zeros((target, *values.shape[1:]), np.float32)
    for offset in range(math.ceil(step) + 1):
        rows = np.floor(starts).astype(int) + offset
        overlap = np.minimum(starts + step, rows + 1) - np.maximum(starts, rows)
        weights = (np.clip(overlap, 0, None) / step).astype(np.float32)
        total += weights[:, None, None] * values[np.minimum(rows, source - 1)]
    return total
