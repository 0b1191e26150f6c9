"""The header of an NPY array, compared with the size of its file before anything is allocated."""

import math
from io import BufferedIOBase
from typing import IO

import numpy as np


def read_npy_header(
    stream: BufferedIOBase | IO[bytes], *, size: int
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array; the stream then stands at its values.

    Args:
        stream: At the start of the array.
        size: Bytes of the whole array, header included.

    Raises:
        ValueError: It is not an array, or has more or fewer bytes than its shape needs.
    """
    version = np.lib.format.read_magic(stream)  # pyright: ignore[reportArgumentType]
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)  # pyright: ignore[reportArgumentType]
    stored, claimed = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or (not dtype.hasobject and claimed != stored):
        raise ValueError(f"an array of {stored} bytes, whose shape needs {claimed}")
    return shape, dtype
