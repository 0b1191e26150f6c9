"""NPY arrays, their headers compared with the size of their file before anything is allocated."""

import math
import tokenize
from io import BufferedIOBase
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Shaped

from distill3r_core.files import open_file
from distill3r_core.untrusted.printable import reason_of

_LONGEST = 10_000  # bytes of a header, as numpy allows


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
    try:
        read, width = np.lib.format.read_array_header_2_0, 4
        if np.lib.format.read_magic(stream) == (1, 0):  # pyright: ignore[reportArgumentType]
            read, width = np.lib.format.read_array_header_1_0, 2
        start = stream.tell()
        length = int.from_bytes(stream.read(width), "little")
        stream.seek(start)
        if length > _LONGEST:  # numpy reads them all before it looks
            raise ValueError(f"it claims {length} bytes")
        shape, _, dtype = read(stream)  # pyright: ignore[reportArgumentType]
    except (
        *(ValueError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError),
        IndexError,  # a type that is an empty tuple
    ) as error:
        # numpy reads what is no literal once more, as a header of Python 2, and quotes it whole.
        raise ValueError(f"a header that cannot be parsed: {reason_of(error)}") from error
    stored, claimed = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or (not dtype.hasobject and claimed != stored):
        raise ValueError(f"an array of {stored} bytes, whose shape needs {claimed}")
    return shape, dtype


def read_npy_file(path: Path) -> Shaped[np.ndarray, "..."]:
    """The array of an NPY file, without pickled objects.

    Raises:
        ValueError: It is no regular file, cannot be read, is not an array, or has more or fewer
            bytes than its shape needs.
    """
    if not path.is_file():
        raise ValueError("it is not a file" if path.exists() else "there is no such file")
    try:
        with open_file(path) as file:
            read_npy_header(file, size=path.stat().st_size)
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, EOFError, OverflowError) as error:
        raise ValueError(str(error)) from error
