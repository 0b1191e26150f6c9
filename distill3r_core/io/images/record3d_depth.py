"""Depth of Record3D: raw float32 meters, packed by LZFSE, whose size is in a file beside them."""

import json
from functools import lru_cache
from importlib import util
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_file, read_text_file
from distill3r_core.untrusted.printable import reason_of

METADATA = "metadata"  # in the folder above that of the depth maps
_OLD_SIZE = (256, 192)  # rows and columns of LiDAR depth where old files do not say them
_CONFIDENT = 2  # of 0 to 2
_MAX_SIDE = 1 << 13
_UNPACKED = b"bvx-", b"bvx1", b"bvx2", b"bvxn"  # blocks of LZFSE; then the length, u32


def read_record3d(path: Path) -> Float[np.ndarray, "H W"]:
    """Depth in meters; 0 where the confidence beside it, if there is one, is not the highest.

    Raises:
        ImageError: A file is missing or damaged, or its decoder is not installed. The message is
            the reason alone.
    """
    metadata = path.parent.parent / METADATA
    try:
        rows, columns = _size(metadata, metadata.stat().st_mtime_ns)
    except OSError as error:
        raise ImageError(f"its {METADATA} cannot be read: {reason_of(error)}") from error
    content = _unpacked(path, 4 * rows * columns)
    depth = np.frombuffer(content, "<f4").reshape(rows, columns).astype(np.float32)
    confidence = path.with_suffix(".conf")
    if is_there(confidence):
        sure = np.frombuffer(_unpacked(confidence, rows * columns), np.uint8)
        depth[sure.reshape(rows, columns) < _CONFIDENT] = 0
    return depth


@lru_cache(maxsize=8)
def _size(path: Path, modified_ns: int) -> tuple[int, int]:
    """Rows and columns of depth; read once for a recording."""
    try:
        content = json.loads(read_text_file(path))
        size = int(content.get("dh", _OLD_SIZE[0])), int(content.get("dw", _OLD_SIZE[1]))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ImageError(f"its {METADATA} is damaged: {reason_of(error)}") from error
    if not all(0 < side <= _MAX_SIDE for side in size):
        raise ImageError(f"its {METADATA} says that depth has {size[1]}x{size[0]} pixels")
    return size


def _unpacked(path: Path, size: int) -> bytes:
    """The bytes of a file that are to be so many; they may be stored as they are."""
    try:
        if path.stat().st_size > 2 * size + 64:  # LZFSE stores what it cannot pack
            raise ImageError(f"{path.name} is larger than {size} bytes")
        content = read_file(path)
    except OSError as error:
        raise ImageError(f"{path.name} cannot be read: {reason_of(error)}") from error
    if len(content) == size:
        return content
    if content[:4] not in _UNPACKED or int.from_bytes(content[4:8], "little") > size:
        raise ImageError(f"{path.name} is not {size} bytes packed by LZFSE")
    if util.find_spec("liblzfse") is None:
        raise ImageError("packed depth needs a decoder: pip install pyliblzfse")
    import liblzfse  # pyright: ignore[reportMissingImports]  # an optional decoder

    try:
        found = bytes(liblzfse.decompress(content))
    except liblzfse.error as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    if len(found) != size:
        raise ImageError(f"{path.name} holds {len(found)} bytes, not {size}")
    return found
