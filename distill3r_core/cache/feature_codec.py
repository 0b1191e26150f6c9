"""Teacher features of a view as a record: float16, packed by zstd.

Features stand beside the maps of a sample, as streams of their own: `features/<layer>` of the
cache. Whoever does not ask for a layer reads none of its bytes.
"""

import numpy as np
from jaxtyping import Float, Float16
from torch import Tensor

from distill3r_core.cache.packed_record import PackedRecord, Packer, RecordError, Section, Unpacker
from distill3r_core.errors import CacheError

MAGIC = b"FEAT"

_VALUES = 1  # float16 [h, w, C]
_WORD = 2  # bytes


class FeaturePacker:
    """Packs features; one per thread."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    def encode(self, features: Float[Tensor, "h w C"], *, name: str) -> bytes:
        """The record of one view's features.

        Args:
            features: One vector per patch, in rows and columns of patches.
            name: What to call them in an error message.

        Raises:
            CacheError: A value is not a finite float16.
        """
        half = features.half()
        if not half.isfinite().all():
            raise CacheError(f"{name} has features that are not finite in float16")
        height, width, _ = half.shape
        section = Section(_VALUES, half.contiguous().numpy().tobytes())
        return self._packer.build(MAGIC, [section], flags=0, shape=(1, height, width))


class FeatureDecoder:
    """Unpacks features into the caller's memory; one per thread."""

    def __init__(self, unpacker: Unpacker) -> None:
        self._unpacker = unpacker

    def shape(self, data: memoryview) -> tuple[int, int, int]:
        """Rows, columns and channels of a record, which stays packed.

        Raises:
            RecordError: The record is damaged.
        """
        return _shape(self._unpacker.parse(data, MAGIC))

    def decode(
        self, data: memoryview, out: Float16[np.ndarray, "h w C"], *, thorough: bool = False
    ) -> None:
        """Fill `out` with the features of a record.

        Raises:
            RecordError: The record is damaged or of another shape.
        """
        record = self._unpacker.parse(data, MAGIC, thorough=thorough)
        if _shape(record) != out.shape:
            raise RecordError(f"features of shape {_shape(record)} instead of {out.shape}")
        values = np.frombuffer(self._unpacker.content(record, _VALUES), np.float16)
        np.copyto(out, values.reshape(out.shape))


def _shape(record: PackedRecord) -> tuple[int, int, int]:
    length = record.sections[_VALUES][2] if _VALUES in record.sections else 0
    vectors = record.height * record.width
    if not vectors or length % (vectors * _WORD):
        raise RecordError(f"{length} bytes of features do not fill {vectors} patches")
    return record.height, record.width, length // (vectors * _WORD)
