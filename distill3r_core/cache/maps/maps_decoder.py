"""Unpack the maps of a view into the caller's memory."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int8, UInt8, UInt16

from distill3r_core.cache.differences import sum_columns, sum_rows
from distill3r_core.cache.exact_similarity import apply_to_half
from distill3r_core.cache.maps.maps_layout import (
    ALL_PLANES,
    CAMERA,
    DEPTH_PLANES,
    EXCEPTIONS,
    GLOBAL_EXCEPTIONS,
    GLOBAL_RESIDUALS,
    MAGIC,
    MASK,
    RESIDUALS,
    TRANSFORM,
    Kind,
)
from distill3r_core.cache.packed_record import PackedRecord, RecordError, Unpacker
from distill3r_core.geometry.cameras import rays

# The four 2-bit codes of a byte as four int8, lowest bits first.
_CODES = np.array([0, 1, -1, 0], np.int8)
_LINE = 32  # words of a processor's cache line
_BYTES = np.stack([_CODES[(np.arange(256) >> shift) & 3] for shift in (0, 2, 4, 6)], axis=1)


@dataclass(frozen=True)
class StoredCamera:
    """What a record says beside its planes."""

    kind: Kind
    global_from_local: Float32[np.ndarray, "3 4"]  # `[sR | t]`
    intrinsics: Float32[np.ndarray, "3 3"] | None  # K of the map, where the kind is DEPTH


class MapsDecoder:
    """Unpacks the maps of views; one per thread."""

    def __init__(self, unpacker: Unpacker) -> None:
        self._unpacker = unpacker
        # Reused: fresh memory for each view costs page faults and fragments the heap.
        self._rows: dict[tuple[int, int], UInt16[np.ndarray, "H _row"]] = {}

    def decode(
        self,
        data: memoryview,
        out: UInt16[np.ndarray, "P H W"],
        mask: UInt8[np.ndarray, "H W"],
        *,
        thorough: bool = False,
    ) -> StoredCamera:
        """Fill `out` and `mask` from a record.

        Args:
            out: Float16 words, as many planes as are wanted: DEPTH_PLANES of a depth record,
                LOCAL_PLANES of one whose global map is the similarity, ALL_PLANES of any. The
                planes are zero outside the mask.
            mask: 1 where a pixel is valid.
            thorough: Check every byte, as `verify` does.

        Raises:
            RecordError: The record is damaged, or holds other planes.
        """
        record = self._unpacker.parse(data, MAGIC, thorough=thorough)
        kind, wanted = _kind_of(record), len(out)
        if (record.height, record.width) != out.shape[1:]:
            raise RecordError(f"maps: expected {out.shape[1:]}, got {record.height}x{record.width}")
        assert wanted == ALL_PLANES or not kind & Kind.INDEPENDENT
        assert wanted > DEPTH_PLANES or kind & Kind.DEPTH
        rows = self._sum_rows(record)
        for chosen, planes in _places(record.planes, kind, out):
            sum_columns(rows[:, chosen], planes)
        if kind & Kind.SHARED:
            out[wanted - 1] = out[wanted - 2]
        camera = self._camera(record, kind)
        if kind & Kind.DEPTH and wanted > DEPTH_PLANES:
            assert camera.intrinsics is not None
            fill_depth(out[:3], camera.intrinsics)
        if wanted == ALL_PLANES and not kind & Kind.INDEPENDENT:
            self._fill_global(record, out, camera)
        self._apply_mask(record, out, mask)
        return camera

    def _sum_rows(self, record: PackedRecord) -> UInt16[np.ndarray, "H C W"]:
        planes, height, width = record.planes, record.height, record.width
        row = planes * width
        if (height, row) not in self._rows:
            self._rows[height, row] = _aligned(height, row)
        memory = self._rows[height, row]
        rows = memory[:, :row].reshape(height, planes, width)
        small = self._values(record, RESIDUALS, np.int8, rows.size).reshape(planes, height, width)
        np.copyto(rows.view(np.int16), small.transpose(1, 0, 2))
        if EXCEPTIONS in record.sections:
            content = self._unpacker.content(record, EXCEPTIONS)
            positions, values = _sparse(content, rows.size)
            spare = memory.shape[1] - row
            memory.reshape(-1)[positions + positions // row * spare] = values
        sum_rows(rows)
        return rows

    def _values(self, record: PackedRecord, code: int, dtype: Any, count: int) -> np.ndarray:
        """The values of a section, which are as many as they must be."""
        content = self._unpacker.content(record, code)
        if len(content) != count * np.dtype(dtype).itemsize:
            raise RecordError(f"section {code} has {len(content)} bytes, not {count} values")
        return np.frombuffer(content, dtype)

    def _camera(self, record: PackedRecord, kind: Kind) -> StoredCamera:
        transform = self._values(record, TRANSFORM, "<f4", 12)
        if not all(map(math.isfinite, transform.tolist())):
            raise RecordError("the record's similarity is not finite")
        intrinsics = None
        if kind & Kind.DEPTH:
            content = self._values(record, CAMERA, "<f4", 9)
            if not (np.isfinite(content).all() and content[0] > 0 and content[4] > 0):
                raise RecordError("the record's intrinsics are not those of a camera")
            intrinsics = content.reshape(3, 3).copy()
        # Copies: what is returned must not borrow the record's memory.
        return StoredCamera(kind, transform.reshape(3, 4).copy(), intrinsics)

    def _fill_global(
        self, record: PackedRecord, out: UInt16[np.ndarray, "8 H W"], camera: StoredCamera
    ) -> None:
        target = out[3:6]
        apply_to_half(out[:3], camera.global_from_local, target)
        if GLOBAL_RESIDUALS not in record.sections:
            return
        words = target.view(np.int16)
        packed = self._values(record, GLOBAL_RESIDUALS, np.uint8, -(-target.size // 4))
        np.add(words, unpack_codes(packed, target.size).reshape(target.shape), out=words)
        if GLOBAL_EXCEPTIONS in record.sections:
            content = self._unpacker.content(record, GLOBAL_EXCEPTIONS)
            positions, values = _sparse(content, target.size)
            target.reshape(-1)[positions] += values

    def _apply_mask(
        self,
        record: PackedRecord,
        out: UInt16[np.ndarray, "P H W"],
        mask: UInt8[np.ndarray, "H W"],
    ) -> None:
        if MASK not in record.sections:
            mask[:] = 1
            return
        content = self._unpacker.content(record, MASK)
        runs = np.frombuffer(content, "<u4") if len(content) % 4 == 0 else np.zeros(0, "<u4")
        if runs.sum(dtype=np.uint64) != mask.size:
            raise RecordError("the runs of the record's mask do not fill it")
        valid = (np.arange(len(runs)) & 1).astype(np.uint8)
        mask.reshape(-1)[:] = np.repeat(valid, runs)
        np.multiply(out, mask, out=out)


def unpack_codes(packed: UInt8[np.ndarray, " bytes"], count: int) -> Int8[np.ndarray, " count"]:
    """Differences of -1, 0 or 1 from two bits each; 0 where an exception says more."""
    return np.take(_BYTES, packed, axis=0).reshape(-1)[:count]


def ray_product(
    depth: Float32[np.ndarray, "H W"], intrinsics: Float32[np.ndarray, "3 3"]
) -> Float32[np.ndarray, "3 H W"]:
    """The local map of a depth record: depth times the pixel's ray, as planes."""
    # Rays in double: their rounding must not depend on how a machine multiplies matrices.
    camera = torch.from_numpy(intrinsics.astype(np.float64))
    direction = rays(camera, (depth.shape[0], depth.shape[1])).float().permute(2, 0, 1)
    return (direction * torch.from_numpy(depth)).contiguous().numpy()


def fill_depth(points: UInt16[np.ndarray, "3 H W"], intrinsics: Float32[np.ndarray, "3 3"]) -> None:
    """Complete a local map of float16 words, of which there is the depth: x and y on its rays."""
    depth = torch.from_numpy(points[2].view(np.float16)).float().numpy()
    product = ray_product(depth, intrinsics)
    torch.from_numpy(points.view(np.float16))[:2].copy_(torch.from_numpy(product[:2]))


def _aligned(height: int, row: int) -> UInt16[np.ndarray, "H _row"]:
    """Memory for rows that each begin a cache line: their sums take a fifth less time."""
    length = -(-row // _LINE) * _LINE
    memory = np.empty(height * length + _LINE, np.uint16)
    start = -memory.ctypes.data % (2 * _LINE) // 2
    return memory[start : start + height * length].reshape(height, length)


def _places(
    stored: int, kind: Kind, out: UInt16[np.ndarray, "P H W"]
) -> Iterator[tuple[slice, UInt16[np.ndarray, "_p H W"]]]:
    """Which stored planes belong where."""
    wanted = len(out)
    if stored == wanted:
        yield slice(None), out
        return
    confidences = 1 if kind & Kind.SHARED else 2
    if kind & Kind.DEPTH:
        at = 0 if wanted == DEPTH_PLANES else 2
        yield slice(0, 1), out[at : at + 1]
    else:
        yield slice(0, 3), out[:3]
    if kind & Kind.INDEPENDENT:
        yield slice(-3 - confidences, -confidences), out[3:6]
    yield slice(-confidences, None), out[wanted - 2 : wanted - 2 + confidences]


def _kind_of(record: PackedRecord) -> Kind:
    kind = Kind(record.flags)
    planes = 1 if kind & Kind.DEPTH else 3
    planes += 3 if kind & Kind.INDEPENDENT else 0
    planes += 1 if kind & Kind.SHARED else 2
    if record.flags >= 2 * Kind.LOCAL_ONLY or record.planes != planes:
        raise RecordError(f"the record has {record.planes} planes, its kind {record.flags} not")
    return kind


def _sparse(content: bytes | memoryview, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of exceptions, below `size`.

    Raises:
        RecordError: They are not pairs, or lie elsewhere.
    """
    data = np.frombuffer(content, np.uint8)
    if len(data) % 6:
        raise RecordError(f"{len(data)} bytes of exceptions are not positions and values")
    count = len(data) // 6
    steps = _joined(data[: 4 * count].reshape(4, count), "<u4")
    values = _joined(data[4 * count :].reshape(2, count), "<u2")
    positions = np.cumsum(steps, dtype=np.int64)
    if len(positions) and positions[-1] >= size:  # steps are not negative
        raise RecordError(f"an exception at {positions[-1]} of {size} values")
    return positions, values


def _joined(by_byte: UInt8[np.ndarray, "B count"], word: str) -> np.ndarray:
    """Words of B bytes, of which the lowest byte of each comes first, then the next of each."""
    words = np.empty(by_byte.shape[::-1], np.uint8)
    # Byte by byte: a transposed copy at once takes two to three times as long.
    for place, values in enumerate(by_byte):
        words[:, place] = values
    return words.view(word).ravel()
