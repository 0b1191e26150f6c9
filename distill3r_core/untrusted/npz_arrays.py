"""Arrays of NPZ files, their sizes checked before anything is unpacked."""

import zipfile
import zlib

import numpy as np
from jaxtyping import Shaped

from distill3r_core.untrusted.npy_header import read_npy_header

# RuntimeError: an array is encrypted. NotImplementedError is one, of a damaged directory.
DAMAGED_NPZ = (
    *(OSError, ValueError, KeyError, EOFError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


def names_in_npz(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays."""
    names = dict.fromkeys(archive.namelist())
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_npz_header(
    archive: zipfile.ZipFile, name: str, *, most: int
) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array.

    Args:
        archive: The NPZ file.
        name: Name of the array.
        most: Bytes that the array may have, unpacked.

    Raises:
        ValueError: It has more, is packed in a way that numpy does not use, or its shape needs
            another number of bytes. What damaged archives raise besides is in `DAMAGED_NPZ`.
    """
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way that numpy does not use")
    if entry.file_size > most:
        raise ValueError(f"{name} has {entry.file_size} bytes")
    with archive.open(entry) as file:
        return read_npy_header(file, size=entry.file_size)


def read_npz_array(archive: zipfile.ZipFile, name: str) -> Shaped[np.ndarray, "..."]:
    """An array whose header has been read, without pickled objects.

    Raises:
        ValueError: It ends early, or holds objects. What damaged archives raise besides is in
            `DAMAGED_NPZ`.
    """
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)
