"""The original project's cache: one folder per sample with an archive of arrays and a JSON file.

`consolidated.npz` has `xyz_local`, `xyz_global` (N, H, W, 3) and `conf_local`, `conf_global`
(N, H, W) in float16, NaN and 0 where invalid, `masks` (run-length codes), `num_views` and
`inference_time`; `sampled_views.json` names the images (the exporter of arXiv:2602.00865).
"""

import io
import json
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16

from distill3r_core.errors import DamageError
from distill3r_core.files import read_text_file, replacing, write_text
from distill3r_core.untrusted.npy_header import read_npy_header
from distill3r_core.untrusted.pickle_check import check_pickle
from distill3r_core.untrusted.printable import reason_of

ARRAYS = "consolidated.npz"
VIEWS = "sampled_views.json"

_PLANES = ("xyz_local", "xyz_global", "conf_local", "conf_global")

# What Python raises of a zip archive, an array in it, or numbers in that, which are none.
_UNREADABLE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    OverflowError,
    RecursionError,
    RuntimeError,  # packed in an unknown way, or encrypted
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)
# Where numpy's own pickles of object arrays come from; nothing else is loaded.
_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
}


@dataclass(frozen=True)
class OriginalSample:
    """A sample as the original project stores it."""

    xyz_local: Float16[np.ndarray, "N H W 3"]  # points in each camera's frame, NaN where invalid
    xyz_global: Float16[np.ndarray, "N H W 3"]  # points in the anchor's frame, NaN where invalid
    conf_local: Float16[np.ndarray, "N H W"]  # confidence of the local map, 0 where invalid
    conf_global: Float16[np.ndarray, "N H W"]  # confidence of the global map, 0 where invalid
    masks: Bool[np.ndarray, "N H W"]  # valid pixels
    views: Mapping[str, Any]
    seconds: float = 0.0


def encode_runs(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """Start and length of every run of true pixels in row-major order, in one flat list.

    Not the code of the cache's own masks, which alternates between invalid and valid runs.
    """
    flat = np.concatenate([[False], mask.ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, stops = edges[::2], edges[1::2]
    return np.stack([starts, stops - starts], axis=1).ravel().tolist()


def decode_runs(runs: Sequence[int], shape: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The mask of a run-length code.

    Raises:
        DamageError: A run does not lie within the mask.
    """
    flat = np.zeros(shape[0] * shape[1], bool)
    if len(runs) % 2:
        raise DamageError(f"a run-length code of {len(runs)} numbers, which come in pairs")
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= start <= start + length <= flat.size:
            raise DamageError(f"a run of {length} pixels from {start} in a mask of {flat.size}")
        flat[start : start + length] = True
    return flat.reshape(shape)


def pack_masks(masks: Bool[np.ndarray, "N H W"]) -> np.ndarray:
    """The object array of all views' codes, as numpy makes it of a list of lists.

    It is (N,) where the codes differ in length and (N, L) where they do not.
    """
    codes = [encode_runs(mask) for mask in masks]
    if len({len(code) for code in codes}) == 1:
        return np.array(codes, dtype=object)
    packed = np.empty(len(codes), dtype=object)
    packed[:] = codes
    return packed


def unpack_masks(packed: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "N H W"]:
    """The masks of either layout of `pack_masks`."""
    return np.stack([decode_runs([int(n) for n in code], size) for code in packed])


def write_sample(folder: Path, sample: OriginalSample) -> None:
    """Write a sample; its archive last, and both files under their names only when they are whole.

    Raises:
        DiskFullError: There is no room; what was written of the file in hand is removed.
    """
    write_text(folder / VIEWS, json.dumps(dict(sample.views), indent=2))
    with replacing(folder / ARRAYS) as beside, beside.open("wb") as file:
        np.savez_compressed(
            file,
            xyz_local=sample.xyz_local,
            xyz_global=sample.xyz_global,
            conf_local=sample.conf_local,
            conf_global=sample.conf_global,
            masks=pack_masks(sample.masks),
            num_views=len(sample.masks),
            inference_time=np.float32(sample.seconds),
        )


def read_sample(folder: Path) -> OriginalSample:
    """Read a sample. Its pickled part is read without running anything that is pickled with it.

    Raises:
        DamageError: A file is missing, truncated, or not what it should be.
    """
    path = folder / ARRAYS
    try:
        if not path.is_file():
            raise FileNotFoundError("there is no such file, or it is a device or a pipe")
        views = json.loads(read_text_file(folder / VIEWS))
        with zipfile.ZipFile(path) as archive:
            arrays = {name: _array(archive, name) for name in _PLANES}
            packed = _packed_masks(archive)
            seconds = float(_array(archive, "inference_time"))
        _check_shapes(path, arrays, len(packed))
        masks = unpack_masks(packed, arrays["conf_local"].shape[1:])
    except _UNREADABLE as error:
        raise DamageError(f"{path} cannot be read: {reason_of(error)}") from error
    except pickle.UnpicklingError as error:
        raise DamageError(
            f"{path} has masks that are no lists of numbers: {reason_of(error)}"
        ) from error
    if not isinstance(views, dict):
        raise DamageError(f"{folder / VIEWS} is no JSON object")
    return OriginalSample(masks=masks, views=views, seconds=seconds, **arrays)


def _check_shapes(path: Path, arrays: Mapping[str, np.ndarray], masks: int) -> None:
    """Raises: DamageError: The arrays are not maps of the same views."""
    wanted = (masks, *arrays["conf_local"].shape[1:])
    for name, array in arrays.items():
        shape = (*wanted, 3) if name.startswith("xyz") else wanted
        if len(wanted) != 3 or array.shape != shape or array.dtype.kind != "f":
            found = f"{array.dtype}{list(array.shape)}"
            raise DamageError(f"{path}: {name} is {found}, which is no map of {masks} views")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    _header_of(archive, name)
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _packed_masks(archive: zipfile.ZipFile) -> np.ndarray:
    shape, dtype, start = _header_of(archive, "masks")
    if not dtype.hasobject:  # numpy made numbers of codes of one length
        return _array(archive, "masks")
    with archive.open("masks.npy") as member:
        file = io.BytesIO(member.read())
    file.seek(start)
    check_pickle(file, size=len(file.getbuffer()))
    file.seek(start)
    return np.asarray(_Harmless(file).load()).reshape(shape)


def _header_of(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and type of a member, and where its values start, before anything is allocated.

    Raises:
        ValueError: It is packed in another way than numpy does, or its size is not its shape's.
    """
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way that numpy does not use")
    with archive.open(member) as file:
        shape, dtype = read_npy_header(file, size=member.file_size)
        return shape, dtype, file.tell()


class _Harmless(pickle.Unpickler):
    """Reads numpy's object arrays of plain numbers and lists, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
