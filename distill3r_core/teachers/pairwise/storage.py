"""How the predictions of all pairs are kept where they do not fit into memory as they come.

Half precision is tried first. Then every second or fourth pixel is kept, in both directions: the
alignment needs many fewer pixels than there are. Each view's own map of its best pair stays whole,
and gives the aligned depth its detail back: depth between kept pixels has the ratio to that map
that the nearest kept pixel has.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.system.machine_memory import available_memory
from distill3r_core.teachers.pairwise.cost import NUMBERS_PER_PIXEL
from distill3r_core.teachers.pairwise.optimization import EDGES_AT_ONCE, Aligned

_log = logging.getLogger(__name__)
STRIDES = (1, 2, 4)
_USABLE = 0.8  # of the free memory
_WORKING_PIXELS = 60  # numbers per pixel of a view: depth, gradients, moments, points
_DETAIL_PIXELS = 4  # numbers per pixel of a view: own depth, confidence, and both again

Size = tuple[int, int]


@dataclass(frozen=True)
class PairStorage:
    """What is kept of a pair.

    Args:
        dtype: Type of the numbers.
        stride: Every so many pixels are kept, in both directions.
    """

    dtype: torch.dtype = torch.float32
    stride: int = 1

    @property
    def offset(self) -> int:
        """The first pixel that is kept."""
        return self.stride // 2

    @property
    def center(self) -> float:
        """Where in a pixel of the coarser grid the kept pixel was seen."""
        return (self.offset + 0.5) / self.stride

    def kept(self, values: Shaped[Tensor, "H W *channels"]) -> Shaped[Tensor, "_h _w *channels"]:
        """The kept pixels of a map, in memory of their own."""
        part = values[self.offset :: self.stride, self.offset :: self.stride]
        return part.to("cpu", self.dtype, copy=self.stride > 1)

    def size(self, size: Size) -> Size:
        """Rows and columns of what is kept."""
        return size[0] // self.stride, size[1] // self.stride


def plan_storage(edges: int, sizes: Sequence[Size], *, beside: int = 0) -> PairStorage:
    """How the predictions of all pairs fit into memory; what is not as they come is logged.

    Args:
        edges: Number of pairs.
        sizes: Rows and columns of each view.
        beside: Bytes that the network takes beside them.

    Raises:
        OutOfMemoryError: They do not fit in half precision at a quarter of the resolution.
    """
    # From the best to the smallest; a stride divides the sides of all views.
    strides = [s for s in STRIDES if all(side % s == 0 for size in sizes for side in size)]
    ways = (PairStorage(), *(PairStorage(torch.float16, stride) for stride in strides))
    free, needed = available_memory(), 0.0
    for storage in ways:
        needed = _needed(edges, sizes, storage) + beside
        if needed < _USABLE * free:
            if storage.dtype is torch.float16:
                resolution = "" if storage.stride == 1 else f" at 1/{storage.stride} of their size"
                _log.warning(
                    "keeping %d pairs in half precision%s to fit into memory", edges, resolution
                )
            return storage
    raise OutOfMemoryError(
        f"{edges} pairs of {len(sizes)} views take {needed / 1e9:.1f} GB, and "
        f"{free / 1e9:.1f} GB are free",
        hint="fewer pairs: --set teacher.graph=swin-3; or fewer views a sample",
    )


def _needed(edges: int, sizes: Sequence[Size], storage: PairStorage) -> float:
    """Bytes, at most, from the first pair to the aligned views."""
    whole = max(map(math.prod, sizes))
    pixels = whole / storage.stride**2
    # Once as they come, once side by side.
    stored = 2 * edges * pixels * NUMBERS_PER_PIXEL * storage.dtype.itemsize
    per_view = _WORKING_PIXELS * pixels + (_DETAIL_PIXELS * whole if storage.stride > 1 else 0)
    chunk = 3 * NUMBERS_PER_PIXEL * EDGES_AT_ONCE * pixels
    return stored + 4 * (per_view * len(sizes) + chunk)


class ViewDetails:
    """Each view's own depth and confidence at full size, while pairs are kept at a coarser one.

    Args:
        sizes: Rows and columns of each view.
    """

    def __init__(self, sizes: Sequence[Size]) -> None:
        self.sizes = tuple(sizes)
        self._depth = [torch.zeros(size) for size in sizes]
        self._best = [0.0] * len(sizes)
        self._confidence = [torch.zeros(size) for size in sizes]

    def add_own(
        self, view: int, points: Float[Tensor, "_H _W 3"], confidence: Float[Tensor, "_H _W"]
    ) -> None:
        """Look at a view's map in its own camera: the surest one gives the detail."""
        self.add(view, confidence)
        score = float(confidence.mean())
        if score > self._best[view]:
            self._best[view] = score
            self._depth[view] = points[..., 2].float().cpu().clone()

    def add(self, view: int, confidence: Float[Tensor, "_H _W"]) -> None:
        """Look at the confidence of a view: the highest of every pixel counts."""
        self._confidence[view] = torch.maximum(self._confidence[view], confidence.float().cpu())

    def restore(
        self, aligned: Aligned, storage: PairStorage
    ) -> tuple[Aligned, Float[Tensor, "N P"]]:
        """The aligned views at full size, and the confidence of their pixels.

        Args:
            aligned: Views on the coarser grid, whose focal lengths are in its pixels.
            storage: What was kept of the pairs.
        """
        largest = max(map(math.prod, self.sizes))
        depth, confidence = torch.zeros(2, len(self.sizes), largest)
        for view, size in enumerate(self.sizes):
            count, coarse = math.prod(size), storage.size(size)
            solved = aligned.depth[view, : math.prod(coarse)].reshape(coarse)
            own = self._depth[view]
            kept = replace(storage, dtype=torch.float32).kept(own)
            known = (kept > 0) & kept.isfinite()
            ratio = _enlarged(torch.where(known, solved / kept, 0.0), storage.stride)
            plain = _enlarged(solved, storage.stride)
            usable = (ratio > 0) & (own > 0) & own.isfinite()
            detailed = torch.where(usable, own * ratio, plain)
            depth[view, :count] = detailed.reshape(-1)
            confidence[view, :count] = self._confidence[view].reshape(-1)
        whole = replace(aligned, depth=depth, focals=aligned.focals * storage.stride)
        return whole, confidence


def _enlarged(values: Float[Tensor, "h w"], factor: int) -> Float[Tensor, "H W"]:
    """Every pixel as a square of pixels."""
    return values.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
