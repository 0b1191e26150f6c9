"""Pack the maps of a view: second differences in eight bits, exceptions beside them.

Lossless with respect to float16 on valid pixels. The format is described in `docs/cache-format.md`.
"""

import numpy as np
from jaxtyping import Bool, Int16, UInt16

from distill3r_core.cache.differences import second_differences
from distill3r_core.cache.exact_similarity import apply_to_half
from distill3r_core.cache.maps.maps_layout import (
    CAMERA,
    EXCEPTIONS,
    GLOBAL_EXCEPTIONS,
    GLOBAL_RESIDUALS,
    MAGIC,
    MASK,
    RESIDUALS,
    TRANSFORM,
    Kind,
    StoredMaps,
)
from distill3r_core.cache.packed_record import Packer, Section
from distill3r_core.errors import CacheError

_LARGE = 3  # code of a global residual that is stored as an exception


class MapsEncoder:
    """Packs the maps of views; one per thread."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    def encode(self, view: StoredMaps, kind: Kind, *, name: str = "view") -> bytes:
        """The record of one view.

        Args:
            kind: How they are stored; SHARED is found here.

        Raises:
            CacheError: A value at a valid pixel is not finite.
        """
        check_finite(view, name=name)
        if ((view.confidence[0] == view.confidence[1]) | ~view.mask).all():
            kind |= Kind.SHARED
        parts = [view.points_local[2:] if kind & Kind.DEPTH else view.points_local]
        if kind & Kind.INDEPENDENT:
            assert view.points_global is not None
            parts.append(view.points_global)
        parts.append(view.confidence[:1] if kind & Kind.SHARED else view.confidence)
        planes = np.concatenate(parts)
        mask = None if view.mask.all() else view.mask
        residual = second_differences(planes, mask)
        sections = _residual_sections(residual.view(np.int16))
        transform = np.ascontiguousarray(view.global_from_local, "<f4")
        sections.append(Section(TRANSFORM, transform.tobytes(), packed=False))
        if kind & Kind.DEPTH:
            assert view.intrinsics is not None
            camera = np.ascontiguousarray(view.intrinsics, "<f4")
            sections.append(Section(CAMERA, camera.tobytes(), packed=False))
        if kind & Kind.EXACT:
            sections += _global_sections(view, residual[:3], mask)
        if mask is not None:
            sections.append(Section(MASK, _runs(mask).tobytes()))
        return self._packer.build(MAGIC, sections, flags=int(kind), shape=planes.shape)


def check_finite(view: StoredMaps, *, name: str) -> None:
    """Refuse values that float16 cannot hold.

    Raises:
        CacheError: A value at a valid pixel is not finite; names the map and the first pixel.
    """
    maps = {"points_local": view.points_local, "confidence": view.confidence}
    if view.points_global is not None:
        maps["points_global"] = view.points_global
    for label, planes in maps.items():
        # An exponent of all ones is infinity or NaN.
        wrong = ((planes & 0x7C00) == 0x7C00).any(0) & view.mask
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise CacheError(
                f"{name}: {label} is not a finite float16 at {wrong.sum()} valid pixels, "
                f"the first in row {row}, column {column}"
            )


def _residual_sections(residual: Int16[np.ndarray, "C H W"]) -> list[Section]:
    small = residual.astype(np.int8)
    large = small != residual
    small[large] = 0
    sections = [Section(RESIDUALS, small.data.cast("B"))]
    # Positions in the order of rows, in which a reader sums them up.
    by_row = large.transpose(1, 0, 2)
    positions = np.flatnonzero(by_row)
    if len(positions):
        values = residual.transpose(1, 0, 2)[by_row]
        sections.append(Section(EXCEPTIONS, _sparse(positions, values)))
    return sections


def _global_sections(
    view: StoredMaps,
    local_residual: UInt16[np.ndarray, "3 H W"],
    mask: Bool[np.ndarray, "H W"] | None,
) -> list[Section]:
    """What the similarity lacks to the global map, mostly a step of float16 up or down."""
    assert view.points_global is not None
    local = view.points_local
    if mask is not None:  # predict from what a reader sees before it applies the mask
        local = np.cumsum(np.cumsum(local_residual, 1, dtype=np.uint16), 2, dtype=np.uint16)
    predicted = np.empty_like(local)
    apply_to_half(np.ascontiguousarray(local), view.global_from_local, predicted)
    residual = (view.points_global - predicted).view(np.int16)
    if mask is not None:
        residual = np.where(mask, residual, np.int16(0))
    flat = residual.ravel()
    code = np.select([flat == 0, flat == 1, flat == -1], [0, 1, 2], _LARGE).astype(np.uint8)
    fours = np.zeros(-(-code.size // 4) * 4, np.uint8)
    fours[: code.size] = code
    fours = fours.reshape(-1, 4)
    packed = fours[:, 0] | fours[:, 1] << 2 | fours[:, 2] << 4 | fours[:, 3] << 6
    sections = [Section(GLOBAL_RESIDUALS, packed.tobytes())]
    positions = np.flatnonzero(code == _LARGE)
    if len(positions):
        sections.append(Section(GLOBAL_EXCEPTIONS, _sparse(positions, flat[positions])))
    return sections


def _sparse(positions: np.ndarray, values: np.ndarray) -> bytes:
    """Ascending positions as differences, then values, each as planes of bytes."""
    steps = np.diff(positions.astype("<u4"), prepend=np.uint32(0)).astype("<u4")
    words = np.ascontiguousarray(values).astype("<i2")
    return (
        steps.view(np.uint8).reshape(-1, 4).T.tobytes()
        + words.view(np.uint8).reshape(-1, 2).T.tobytes()
    )


def _runs(mask: Bool[np.ndarray, "H W"]) -> np.ndarray:
    """Lengths of the runs of equal pixels in row-major order; the first one is invalid."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    if flat[0]:
        runs = np.concatenate([[0], runs])
    return runs.astype("<u4")
