"""Readers of the depth files that data sets come with.

A reader takes a path and returns the stored numbers, unscaled. It raises `ImageError` with the
reason alone where the file cannot be read.
"""

import contextlib
import io
import math
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Num, Shaped

from distill3r_core.errors import ImageError
from distill3r_core.files import open_file
from distill3r_core.io.images.depth import read_npy, read_pgm16, read_png16
from distill3r_core.io.images.record3d_depth import read_record3d
from distill3r_core.registry import Registry
from distill3r_core.untrusted.npz_arrays import (
    DAMAGED_NPZ,
    names_in_npz,
    read_npz_array,
    read_npz_header,
)
from distill3r_core.untrusted.printable import reason_of

_PFM_LINE = 100  # bytes; a header's line is shorter
_MAX_SIDE = 1 << 16
_MAX_NUMBERS = 1 << 28  # of a packed file, in all channels; real depth has a few million
_PACKED = 1100  # bytes that a byte may stand for; of zeros, deflate makes 1 of 1030
_COLMAP_HEAD = re.compile(rb"(\d{1,6})&(\d{1,6})&1&")  # columns, rows, one channel
_LONGEST_HEAD = 16  # bytes, of the largest numbers
_exr_lock = threading.Lock()  # the standard output belongs to the process


def read_float16_png(path: Path) -> Float[np.ndarray, "H W"]:
    """A 16-bit PNG whose bits are those of float16 (CO3D)."""
    return read_png16(path).view(np.float16).astype(np.float32)


def read_pfm(path: Path) -> Float[np.ndarray, "H W"]:
    """A gray portable float map: rows from the bottom up, little-endian where the scale is < 0."""
    try:
        with open_file(path) as file:
            rows, columns, order = _pfm_header(file)
            stored = np.frombuffer(file.read(), f"{order}f4").reshape(rows, columns)
    except (OSError, ValueError) as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error
    return np.flipud(stored).astype(np.float32)


def pfm_size(path: Path) -> tuple[int, int]:
    """Rows and columns of a gray portable float map, by its header."""
    try:
        with open_file(path) as file:
            return _pfm_header(file)[:2]
    except (OSError, ValueError) as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error


def _pfm_header(file: BinaryIO) -> tuple[int, int, str]:
    """Rows, columns and byte order; the file is then at its numbers."""
    lines = [file.readline(_PFM_LINE).decode("ascii").strip() for _ in range(3)]
    kind, size, scale = lines
    if kind != "Pf" or not (match := re.fullmatch(r"(\d{1,6}) +(\d{1,6})", size)):
        raise ImageError("depth is not a gray PFM")
    columns, rows = int(match[1]), int(match[2])
    order = "<" if float(scale) < 0 else ">"
    left = os.fstat(file.fileno()).st_size - file.tell()
    if left != 4 * rows * columns or not 0 < max(rows, columns) <= _MAX_SIDE:
        raise ImageError(f"depth of {columns}x{rows} pixels has {left} bytes")
    return rows, columns, order


def read_colmap(path: Path) -> Float[np.ndarray, "H W"]:
    """A depth map of COLMAP's `patch_match_stereo`: `columns&rows&1&`, then float32."""
    try:
        with open_file(path) as file:
            head = _COLMAP_HEAD.match(file.read(_LONGEST_HEAD))
            if head is None:
                raise ImageError("depth is not a map of COLMAP")
            columns, rows = int(head[1]), int(head[2])
            left = os.fstat(file.fileno()).st_size - head.end()
            if left != 4 * rows * columns or not 0 < max(rows, columns) <= _MAX_SIDE:
                raise ImageError(f"depth of {columns}x{rows} pixels has {left} bytes")
            file.seek(head.end())
            stored = np.frombuffer(file.read(), "<f4").reshape(rows, columns)
    except (OSError, ValueError) as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error
    return stored.astype(np.float32)


def read_array(path: Path) -> Num[np.ndarray, "H W"]:
    """An NPY file of numbers."""
    stored = read_npy(path)
    if stored.ndim != 2 or not np.issubdtype(stored.dtype, np.number):
        raise ImageError("depth is not a two-dimensional array of numbers")
    if np.iscomplexobj(stored):
        raise ImageError("depth is complex")
    return stored


def read_npz(path: Path) -> Num[np.ndarray, "H W"]:
    """The array `depth` of an NPZ file, or the only one in it."""
    with _opened_npz(path) as (archive, name, _):
        return read_npz_array(archive, name)


def npz_depth_type(path: Path) -> np.dtype:
    """Type of the numbers that `read_npz` gives; of the file, the header alone is read.

    Raises:
        ImageError: See `read_npz`.
    """
    with _opened_npz(path) as (_, _, dtype):
        return dtype


@contextlib.contextmanager
def _opened_npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, str, np.dtype]]:
    """An NPZ file, and the name and type of its depth, whose size has been checked."""
    try:
        with open_file(path) as opened, zipfile.ZipFile(opened) as archive:
            names = names_in_npz(archive)
            name = "depth" if "depth" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise ImageError(f"{len(names)} arrays, and none of them is 'depth'")
            length = os.fstat(opened.fileno()).st_size
            shape, dtype = read_npz_header(archive, name, most=_PACKED * length)
            if len(shape) != 2 or dtype.kind not in "iuf":
                raise ImageError("depth is not a two-dimensional array of numbers")
            if math.prod(shape) > _MAX_NUMBERS:
                raise ImageError(f"depth of {shape} is too large")
            yield archive, name, dtype
    except DAMAGED_NPZ as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error


def read_h5(path: Path) -> Float[np.ndarray, "H W"]:
    """The array `depth` of an HDF5 file (MegaDepth)."""
    if util.find_spec("h5py") is None:
        raise ImageError("HDF5 depth needs an extra: pip install 'distill3r[datasets]'")
    import h5py

    try:
        with open_file(path) as opened, h5py.File(opened, "r") as file:
            # A link or an array whose numbers are elsewhere would read any other file.
            is_here = isinstance(file.get("depth", getlink=True), h5py.HardLink)
            stored = file.get("depth") if is_here else None
            if not isinstance(stored, h5py.Dataset) or len(stored.shape) != 2:
                raise ImageError("there is no two-dimensional array 'depth'")
            if stored.external or stored.is_virtual:
                raise ImageError("the array 'depth' is in other files")
            if stored.nbytes > _PACKED * stored.id.get_storage_size():
                raise ImageError(f"claims depth of {stored.shape} in a few bytes")
            if math.prod(stored.shape) > _MAX_NUMBERS:
                raise ImageError(f"depth of {stored.shape} is too large")
            return stored[()].astype(np.float32)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error


def read_exr(path: Path) -> Float[np.ndarray, "H W"]:
    """The first channel of an OpenEXR image (Habitat, Record3D)."""
    if util.find_spec("OpenEXR") is None:
        raise ImageError("EXR depth needs an extra: pip install 'distill3r[datasets]'")
    import OpenEXR

    try:
        _check_exr(path)
        # What is damaged in it, the library prints.
        with (
            _exr_lock,
            contextlib.redirect_stdout(io.StringIO()),
            OpenEXR.File(str(path), separate_channels=True) as file,
        ):
            channels = file.channels()
            name = next((name for name in ("Z", "Y", "R", "V") if name in channels), None)
            if name is None:
                raise ImageError(f"none of its channels is depth: {', '.join(channels)}")
            return np.asarray(channels[name].pixels, np.float32)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ImageError(f"depth cannot be read: {reason_of(error)}") from error


def _check_exr(path: Path) -> None:
    """Refuse an OpenEXR image by its header, before its pixels are allocated.

    Raises:
        ImageError: It claims more pixels than its bytes can mean, or more than depth has.
        OSError: It is no file.
    """
    import OpenEXR

    with open_file(path) as opened:
        length = os.fstat(opened.fileno()).st_size
    with OpenEXR.File(str(path), header_only=True) as file:
        header = file.header()  # empty once the file is closed
        low, high = header["dataWindow"]
        columns, rows = (int(end) - int(start) + 1 for start, end in zip(low, high, strict=True))
        numbers = rows * columns * len(header["channels"])  # of 16 bits at least
    if not min(rows, columns) > 0 or 2 * numbers > _PACKED * length:
        raise ImageError(f"claims depth of {columns}x{rows} pixels in a few bytes")
    if numbers > _MAX_NUMBERS:
        raise ImageError(f"depth of {columns}x{rows} pixels is too large")


DEPTH_CODECS: Registry[Callable[[Path], Shaped[np.ndarray, "H W"]]] = Registry("depth codec")
DEPTH_CODECS.add("png16", read_png16)
DEPTH_CODECS.add("pgm16", read_pgm16)
DEPTH_CODECS.add("float16-png", read_float16_png)
DEPTH_CODECS.add("pfm", read_pfm)
DEPTH_CODECS.add("array", read_array)
DEPTH_CODECS.add("npz", read_npz)
DEPTH_CODECS.add("h5", read_h5)
DEPTH_CODECS.add("exr", read_exr)
DEPTH_CODECS.add("record3d", read_record3d)
DEPTH_CODECS.add("colmap", read_colmap)
