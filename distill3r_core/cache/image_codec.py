"""Images at the student's size, lossless: smaller than PNG and as fast to read as JPEG.

Planes R-G, G, B-G modulo 256, their second differences, packed.
"""

import numpy as np
from jaxtyping import UInt8

from distill3r_core.cache.differences import second_differences, sum_columns, sum_rows
from distill3r_core.cache.packed_record import Packer, RecordError, Section, Unpacker

MAGIC = b"PIMG"

_PLANES = 1


class ImageEncoder:
    """Packs images; one per thread."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    def encode(self, image: UInt8[np.ndarray, "3 H W"]) -> bytes:
        """The record of one RGB image."""
        planes = np.array(image, order="C")
        planes[0] -= planes[1]
        planes[2] -= planes[1]
        section = Section(_PLANES, second_differences(planes).tobytes())
        return self._packer.build(MAGIC, [section], flags=0, shape=planes.shape)


class ImageDecoder:
    """Unpacks images into the caller's memory; one per thread."""

    def __init__(self, unpacker: Unpacker) -> None:
        self._unpacker = unpacker
        # Reused: fresh memory for each view costs page faults and fragments the heap.
        self._rows: dict[tuple[int, int], UInt8[np.ndarray, "H 3 W"]] = {}

    def decode(
        self, data: memoryview, out: UInt8[np.ndarray, "3 H W"], *, thorough: bool = False
    ) -> None:
        """Fill `out` with the image of a record.

        Raises:
            RecordError: The record is damaged or of another size.
        """
        record = self._unpacker.parse(data, MAGIC, thorough=thorough)
        if (record.planes, record.height, record.width) != out.shape:
            raise RecordError(f"image: expected {out.shape}, got {record.height}x{record.width}")
        packed = np.frombuffer(self._unpacker.content(record, _PLANES), np.uint8)
        if packed.size != out.size:
            raise RecordError(f"an image of {packed.size} bytes instead of {out.size}")
        _, height, width = out.shape
        if (height, width) not in self._rows:
            self._rows[height, width] = np.empty((height, 3, width), np.uint8)
        rows = self._rows[height, width]
        np.copyto(rows, packed.reshape(out.shape).transpose(1, 0, 2))
        sum_rows(rows)
        sum_columns(rows, out)
        out[0] += out[1]
        out[2] += out[1]
