"""Where a loader's threads read: a teacher cache, at the student's size, or samples in memory."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from distill3r_core.cache.maps.maps_decoder import fill_depth
from distill3r_core.cache.maps.maps_layout import DEPTH_PLANES, Kind, delivered_planes
from distill3r_core.cache.store import TeacherCache, ViewBuffers
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.geometry.resample import nearest_pixels
from distill3r_core.io.images.fit import oriented
from distill3r_core.io.images.resize import resize_image
from distill3r_core.types import ImagePlacement, TeacherTargets

Size = tuple[int, int]


@runtime_checkable
class SampleSource(Protocol):
    """A `TeacherCache`, several, or what reads from them; safe to read from many threads."""

    @property
    def planes(self) -> int:
        """How many planes a view has; see `cache.maps_layout`."""
        ...

    def size_of(self, name: str) -> Size:
        """Rows and columns of a sample as it is read."""
        ...

    def read_into(self, name: str, views: Sequence[int], buffers: ViewBuffers) -> None:
        """Put views of a sample, in that order, into the caller's memory."""
        ...


class ResizedCache:
    """A cache at the student's size: targets nearest, images by the chain's plain resize.

    Where K is known, the depth is put on the rays of the new pixels, as when the cache was made:
    a nearest point lies on the ray of another pixel, up to half a stored pixel away.

    Args:
        cache: At least as large.
        size: Rows and columns for landscape; a portrait sample gets them swapped.
    """

    def __init__(self, cache: TeacherCache | CacheUnion, size: Size) -> None:
        self._cache, self._size = cache, size
        self._threads = threading.local()

    @property
    def planes(self) -> int:
        """Number of planes of a view, as in the cache."""
        return self._cache.planes

    def size_of(self, name: str) -> Size:
        """Rows and columns after the resize."""
        height, width = self._cache.size_of(name)
        return oriented(self._size, portrait=height > width)

    def read_into(self, name: str, views: Sequence[int], buffers: ViewBuffers) -> None:
        """See `TeacherCache.read_into`."""
        entry = self._cache.entry(name)
        if entry.size == self.size_of(name):
            self._cache.read_into(name, views, buffers)
            return
        whole = self._whole(buffers.planes.shape[1], entry.size)
        for row, view in enumerate(views):
            self._cache.read_into(name, [view], whole)
            _resize(whole, buffers, row, on_rays=bool(entry.kind & Kind.DEPTH))

    def _whole(self, planes: int, size: Size) -> ViewBuffers:
        """Room for one view as it is stored; one per thread and size, used again and again."""
        rooms = self._threads.__dict__
        key = f"{planes}x{size}"
        if key not in rooms:
            rooms[key] = ViewBuffers.allocate(1, planes, size)
        return rooms[key]


class HeldSamples:
    """Samples that were read, and resized, once and stay in memory, bit for bit."""

    def __init__(self, source: SampleSource, available: Mapping[str, int]) -> None:
        self._planes = source.planes
        self._samples: dict[str, ViewBuffers] = {}
        for name, views in available.items():
            held = ViewBuffers.allocate(views, source.planes, source.size_of(name))
            source.read_into(name, range(views), held)
            self._samples[name] = held

    @property
    def planes(self) -> int:
        """Number of planes of a view, as in the source."""
        return self._planes

    def size_of(self, name: str) -> Size:
        """Rows and columns as they are held."""
        height, width = self._samples[name].mask.shape[1:]
        return height, width

    def read_into(self, name: str, views: Sequence[int], buffers: ViewBuffers) -> None:
        """See `TeacherCache.read_into`."""
        held = self._samples[name]
        for field in fields(ViewBuffers):
            # Any mode but "raise" writes straight into `out`.
            values, out = getattr(held, field.name), getattr(buffers, field.name)
            np.take(values, views, axis=0, out=out, mode="clip")


def read_at(
    cache: TeacherCache | CacheUnion,
    name: str,
    views: Sequence[int] | None = None,
    *,
    size: Size | None,
) -> tuple[UInt8[Tensor, "N 3 H W"], TeacherTargets]:
    """Images and targets of a sample at the student's size, finished on the CPU.

    Args:
        views: Which ones, in the order in which they are wanted; None: all.
        size: Rows and columns for landscape; None: as it is stored.
    """
    source: SampleSource = cache if size is None else ResizedCache(cache, size)
    entry = cache.entry(name)
    chosen = range(entry.views) if views is None else views
    return read_views(source, name, chosen, planes=delivered_planes(entry.kind))


def read_views(
    source: SampleSource, name: str, views: Sequence[int], *, planes: int | None = None
) -> tuple[UInt8[Tensor, "N 3 H W"], TeacherTargets]:
    """Images and targets of some views of a sample, finished on the CPU.

    Args:
        planes: Number of planes of its views; None: the most that a sample of the source has.
    """
    buffers = ViewBuffers.allocate(len(views), planes or source.planes, source.size_of(name))
    source.read_into(name, views, buffers)
    return torch.from_numpy(buffers.images), buffers.finished()


def _resize(whole: ViewBuffers, smaller: ViewBuffers, row: int, *, on_rays: bool) -> None:
    """Fill a row with the one view of `whole`."""
    height, width = whole.mask.shape[1:]
    size = smaller.mask.shape[1:]
    rows, columns = _pixels((height, width), size)
    planes = smaller.planes[row]
    planes[:] = whole.planes[0][:, rows, columns]
    smaller.mask[row] = whole.mask[0][rows, columns]
    image = np.ascontiguousarray(whole.images[0].transpose(1, 2, 0))
    smaller.images[row] = resize_image(image, size).transpose(2, 0, 1)
    smaller.global_from_local[row] = whole.global_from_local[0]
    smaller.own_global[row] = whole.own_global[0]
    smaller.local_only[row] = whole.local_only[0]
    smaller.intrinsics[row] = whole.intrinsics[0]
    if on_rays:
        box = (0.0, 0.0, float(width), float(height))
        placed = place_intrinsics(torch.from_numpy(whole.intrinsics[0]), ImagePlacement(box, size))
        smaller.intrinsics[row] = placed.numpy()
        if len(planes) > DEPTH_PLANES:
            fill_depth(planes[:3], smaller.intrinsics[row])


@lru_cache(maxsize=32)
def _pixels(source: Size, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Which stored rows, as a column, and columns are read."""
    box = (0.0, 0.0, float(source[1]), float(source[0]))
    rows, columns = nearest_pixels(source, box, size)
    return rows.numpy()[:, None], columns.numpy()
