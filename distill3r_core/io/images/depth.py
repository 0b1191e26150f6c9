"""Depth maps as files: 16-bit PNG of millimeters, and float32 NPY where they do not fit."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer, Shaped, UInt16
from PIL import Image, UnidentifiedImageError

from distill3r_core.errors import ImageError
from distill3r_core.files import open_file, replacing
from distill3r_core.io.images.decode import check_header, quiet
from distill3r_core.untrusted.npy_header import read_npy_file
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.views import Unit

DepthFormat = Literal["png16mm", "npy32"]
MILLIMETERS: dict[Unit, float] = {"m": 1000.0, "mm": 1.0}  # in one metric unit
_MOST = 65535


def read_png16(path: Path) -> UInt16[np.ndarray, "H W"]:
    """The stored numbers of a 16-bit gray PNG, as sensors write them.

    Raises:
        ImageError: Unreadable, or not 16-bit gray. The message is the reason alone.
    """
    return _as_16_bits(*_read_gray(path))


def read_pgm16(path: Path) -> UInt16[np.ndarray, "H W"]:
    """The stored numbers of a 16-bit PGM, big-endian, as ScanNet's exporter writes them.

    Raises:
        ImageError: Unreadable, or not 16-bit gray. The message is the reason alone.
    """
    return _as_16_bits(*_read_gray(path, formats=("PPM",)))


def _as_16_bits(mode: str, values: Shaped[np.ndarray, "..."]) -> UInt16[np.ndarray, "H W"]:
    if not mode.startswith("I") or values.min() < 0 or values.max() > _MOST:
        raise ImageError(f"depth is not 16-bit gray (mode {mode})")
    return values.astype(np.uint16)


def read_confidence(path: Path) -> Integer[np.ndarray, "H W"]:
    """The stored numbers of a gray PNG of 8 or 16 bits that says how far depth can be trusted.

    Raises:
        ImageError: Unreadable, or not gray. The message is the reason alone.
    """
    mode, values = _read_gray(path)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ImageError(f"the confidence of depth is not gray (mode {mode})")
    return values


def read_codes(path: Path) -> Integer[np.ndarray, "H W"]:
    """The stored numbers of a gray PNG or JPEG.

    Raises:
        ImageError: Unreadable, or not gray. The message is the reason alone.
    """
    mode, values = _read_gray(path, formats=("PNG", "JPEG"))
    if values.ndim != 2:
        raise ImageError(f"is not a gray image (mode {mode})")
    return values


def _read_gray(
    path: Path, *, formats: tuple[str, ...] = ("PNG", "TIFF")
) -> tuple[str, Shaped[np.ndarray, "..."]]:
    """Mode and values of an image, whatever they are."""
    try:
        # Opened here: of a path, Pillow waits for a pipe.
        with open_file(path) as file:
            with quiet():
                opened = Image.open(file, formats=formats)
            with opened as image:
                check_header(image, os.fstat(file.fileno()).st_size, least_side=1)
                image.load()
                return image.mode, np.asarray(image)
    except UnidentifiedImageError as error:
        kind = "PGM" if formats == ("PPM",) else "PNG"
        raise ImageError(f"depth is not a {kind}, or its header is damaged") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise ImageError(f"depth cannot be read: {reason}") from error


def depth_format(depth: Float[np.ndarray, "H W"], unit: Unit) -> DepthFormat:
    """How a depth map is stored: as millimeters where it is metric and they fit in 16 bits."""
    if unit == "none" or float(depth.max(initial=0.0)) * MILLIMETERS[unit] > _MOST:
        return "npy32"
    return "png16mm"


def as_stored(depth: Float[np.ndarray, "H W"], unit: Unit) -> Float[np.ndarray, "H W"]:
    """Depth in `unit` as `read_depth` gives it back after `write_depth`, float32."""
    if depth_format(depth, unit) == "npy32":
        return depth.astype(np.float32)
    return _from_png16(_as_png16(depth, unit), unit)


def write_depth(path: Path, depth: Float[np.ndarray, "H W"], *, unit: Unit) -> None:
    """Write depth in the format of the name's extension, whole or not at all.

    Args:
        path: Ends in `.png` (millimeters, rounded) or `.npy` (float32, as given).
        depth: z in `unit`; 0 where unknown.
        unit: Unit of `depth`; a PNG needs a metric one.
    """
    with replacing(path) as beside:
        if path.suffix == ".npy":
            np.save(beside, depth.astype(np.float32), allow_pickle=False)
        else:
            Image.fromarray(_as_png16(depth, unit)).save(beside, compress_level=3)


def read_depth(path: Path, *, stored: DepthFormat, unit: Unit = "m") -> Float[np.ndarray, "H W"]:
    """Depth in `unit`, float32; 0 where unknown.

    Raises:
        ImageError: Unreadable. The message is the reason alone.
    """
    if stored == "png16mm":
        return _from_png16(read_png16(path), unit)
    depth = read_npy(path)
    if depth.ndim != 2 or depth.dtype != np.float32:
        raise ImageError("depth is not a two-dimensional float32 array")
    return depth


def read_npy(path: Path) -> Shaped[np.ndarray, "..."]:
    """The array of an NPY file, its header checked against the file's size.

    Raises:
        ImageError: Unreadable, or more than an array. The message is the reason alone.
    """
    if not path.exists():
        raise ImageError("no such depth file")
    try:
        return read_npy_file(path)
    except ValueError as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error


def _as_png16(depth: Float[np.ndarray, "H W"], unit: Unit) -> UInt16[np.ndarray, "H W"]:
    return np.rint(depth.astype(np.float64) * MILLIMETERS[unit]).astype(np.uint16)


def _from_png16(stored: UInt16[np.ndarray, "H W"], unit: Unit) -> Float[np.ndarray, "H W"]:
    return (stored / MILLIMETERS[unit]).astype(np.float32)
