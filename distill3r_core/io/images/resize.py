"""Resizing of images by Pillow."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def resize_image(
    pixels: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """The plain resize: Lanczos where pixels get fewer, bicubic where they get more."""
    height, width, _ = pixels.shape
    return resize_box(pixels, size, box=(0.0, 0.0, float(width), float(height)))


def limited_size(size: tuple[int, int], limit: int) -> tuple[int, int]:
    """Rows and columns after the long edge is brought to a limit; never enlarged."""
    long_edge = max(size)
    if long_edge <= limit:
        return size
    rows, columns = (round(side * limit / long_edge) for side in size)
    return max(rows, 1), max(columns, 1)


def resize_box(
    pixels: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    *,
    box: tuple[float, float, float, float],
) -> UInt8[np.ndarray, "h w 3"]:
    """Part of an image (left, top, right, bottom, in pixels) at a size, as `resize_image`."""
    height, width, _ = pixels.shape
    left, top, right, bottom = box
    shrinks = size[0] * size[1] < (right - left) * (bottom - top)
    filter_ = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    # Pillow refuses a box that rounding has carried past the rim.
    inside = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    return np.array(Image.fromarray(pixels).resize((size[1], size[0]), filter_, box=inside))
