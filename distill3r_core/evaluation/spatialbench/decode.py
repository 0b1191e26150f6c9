"""Depth files of SpatialBench: what a stored number means is said by a scene's `meta.json`."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from distill3r_core.errors import ImageError
from distill3r_core.files import read_file
from distill3r_core.io.images.depth import read_codes
from distill3r_core.untrusted.npy_header import read_npy_file
from distill3r_core.untrusted.printable import reason_of

_STEPS = {  # codes of one meter
    "uint16_png_div1000": 1000.0,
    "uint16_png_div1000_rectified": 1000.0,
    "uint16_png_div100": 100.0,
    "uint16_png_div_655.35": 655.35,
}
_INVERSE = "uint16_png_inverse_encoded"
_SKY = {"uint16_png_div100": 65500, _INVERSE: 65501}  # this code and those above are sky
_MIN_INVERSE = 0.0015  # of the coded share; nearer is unknown
_CODES = 65535.0
_RAW = re.compile(r"float32_binary_(\d+)x(\d+)")
_ARRAYS = ("npy_float32_meters",)


def decode_depth(
    path: Path, code: str, *, metric_scale: float = 1.0
) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"] | None]:
    """Depth in meters, 0 where unknown, and the sky where the code says it.

    Args:
        code: `depth_format` of the scene's `meta.json`.
        metric_scale: Its `metric_scale`, of inverse codes.

    Raises:
        ImageError: The code is unknown, or the file is not of it; the reason alone.
    """
    if code in _STEPS or code == _INVERSE:
        return decode_codes(read_gray(path), code, metric_scale=metric_scale)
    if code in _ARRAYS:
        try:
            values = read_npy_file(path)
        except ValueError as error:
            raise ImageError(f"cannot be read: {reason_of(error)}") from error
        if values.ndim != 2:
            raise ImageError(f"has the shape {values.shape}, not rows and columns")
        return _known(values), None
    if match := _RAW.fullmatch(code):
        rows, columns = int(match[1]), int(match[2])
        try:
            values = np.frombuffer(read_file(path), "<f4")
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot be read: {reason_of(error)}") from error
        if values.size != rows * columns:
            raise ImageError(f"has {values.size} numbers, {code} says {rows}x{columns}")
        return _known(values.reshape(rows, columns)), None
    if code == "exr_float32":
        raise ImageError("depth in EXR files is not read; convert it to npy_float32_meters")
    raise ImageError(f"depth_format {code!r} is not known")


def decode_codes(
    codes: Float[np.ndarray, "H W"], code: str, *, metric_scale: float = 1.0
) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"] | None]:
    """Depth and sky of stored integers; see `decode_depth`."""
    if code == _INVERSE:
        share = codes / _CODES
        depth = share / (1000 - 999 * share) / 0.004 * metric_scale
        depth = np.where(share < _MIN_INVERSE, 0.0, depth)
    else:
        depth = codes / _STEPS[code]
    sky = None
    if code in _SKY:
        sky = codes >= _SKY[code]
        depth = np.where(sky, 0.0, depth)
    return _known(depth), sky


def read_gray(path: Path) -> Float[np.ndarray, "H W"]:
    """A gray image as stored, with its range: 8 or 16 bits.

    Raises:
        ImageError: It cannot be read.
    """
    return read_codes(path).astype(np.float64)


def _known(depth: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32)
