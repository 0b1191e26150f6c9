"""Crop, resize and undistort a frame as SpatialBench does before a model sees it."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from distill3r_core.errors import ImageError

_MARGIN_SHARE = 5  # the principal point keeps at least a fifth of each side on both sides
_JUST_ABOVE = 1e-8
_POSITIONS = 32  # between two pixels, at which OpenCV interpolates


def resize_frame(
    image: UInt8[np.ndarray, "H W 3"],
    depth: Float[np.ndarray, "H W"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"], Float[np.ndarray, "3 3"]]:
    """A window centered on the principal point, scaled to cover `size`, and cropped to it.

    Args:
        intrinsics: K of the image, pixel centers at 0.
        size: Rows and columns of the result.

    Returns:
        Image, depth (nearest) and K, pixel centers at 0.

    Raises:
        ImageError: Depth and image differ in size, or the principal point is near the border.
    """
    if depth.shape != image.shape[:2]:
        raise ImageError(f"depth is {_named(depth)}, the image {_named(image)}")
    intrinsics = intrinsics.astype(np.float64).copy()
    image, depth = _center(image, depth, intrinsics)
    rows, columns = image.shape[:2]
    scale = max(size[0] / rows, size[1] / columns) + _JUST_ABOVE
    scaled = int(np.floor(rows * scale)), int(np.floor(columns * scale))
    resampling = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    picture = np.array(Image.fromarray(image).resize((scaled[1], scaled[0]), resampling))
    depth = stretch_nearest(depth, scaled)
    # Half of what the rounding to whole pixels cut off is taken from each side.
    middle = (intrinsics[:2, 2] + 0.5) * scale
    middle -= (np.array([columns, rows]) * scale - np.array(scaled[::-1])) / 2
    intrinsics[:2, :2] *= scale
    wanted = middle - (np.array(scaled[::-1]) - np.array(size[::-1])) / 2
    left, top = np.round(middle - wanted).astype(int)
    intrinsics[:2, 2] = middle - 0.5 - (left, top)
    kept = np.s_[top : top + size[0], left : left + size[1]]
    return np.ascontiguousarray(picture[kept]), depth[kept].copy(), intrinsics


def stretch_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at another number of rows and columns, by the pixels that OpenCV takes as nearest."""
    taken = [
        np.minimum(np.floor(np.arange(out) * (1 / (out / whole))).astype(int), whole - 1)
        for whole, out in zip(values.shape, size, strict=True)
    ]
    return values[np.ix_(*taken)]


def _center(
    image: np.ndarray, depth: np.ndarray, intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[np.ndarray, np.ndarray]:
    """The largest window about the principal point; moves K in place."""
    rows, columns = image.shape[:2]
    x, y = np.round(intrinsics[:2, 2]).astype(int)
    across, down = min(x, columns - x), min(y, rows - y)
    if across <= columns / _MARGIN_SHARE or down <= rows / _MARGIN_SHARE:
        raise ImageError(f"the principal point ({x}, {y}) is near the border of {_named(image)}")
    kept = np.s_[y - down : y + down, x - across : x + across]
    intrinsics[:2, 2] -= (x - across, y - down)
    return image[kept], depth[kept]


def undistort(
    image: UInt8[np.ndarray, "H W 3"],
    distorted: Float[np.ndarray, "3 3"],
    coefficients: Float[np.ndarray, " D"],
    intrinsics: Float[np.ndarray, "3 3"],
) -> UInt8[np.ndarray, "H W 3"]:
    """The image that a pinhole camera with K would have seen (bilinear, black outside).

    Args:
        distorted: K of the image, pixel centers at 0.
        coefficients: k1, k2, p1, p2 and, where there are more, k3 (Brown, as OpenCV orders them).
        intrinsics: K of the result, pixel centers at 0.
    """
    k1, k2, p1, p2, k3 = (*coefficients.astype(np.float64).ravel(), 0.0)[:5]
    rows, columns = image.shape[:2]
    v, u = np.mgrid[:rows, :columns]
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    moved_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
    moved_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
    return _bilinear(
        image,
        moved_x * distorted[0, 0] + distorted[0, 2],
        moved_y * distorted[1, 1] + distorted[1, 2],
    )


def _bilinear(image: np.ndarray, u: np.ndarray, v: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    rows, columns = image.shape[:2]
    u, v = (np.round(pixels * _POSITIONS) / _POSITIONS for pixels in (u, v))
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    total = np.zeros((*u.shape, image.shape[2]))
    for down in (0, 1):
        for across in (0, 1):
            column, row = left + across, top + down
            weight = np.abs(1 - across - (u - left)) * np.abs(1 - down - (v - top))
            inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
            values = image[row.clip(0, rows - 1), column.clip(0, columns - 1)]
            total += np.where(inside, weight, 0.0)[..., None] * values
    return np.round(total).astype(np.uint8)


def _named(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
