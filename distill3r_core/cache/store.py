"""Reading and writing teacher caches: one or many shards under one header."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from torch import Tensor

from distill3r_core.cache.header import (
    CacheHeader,
    PlannedSample,
    publish_header,
    read_header,
)
from distill3r_core.cache.header_copies import refuse_foreign_shard
from distill3r_core.cache.header_record import header_text
from distill3r_core.cache.maps.maps_layout import (
    ALL_PLANES,
    DEPTH_PLANES,
    LOCAL_PLANES,
    Kind,
    delivered_planes,
)
from distill3r_core.cache.sample_codec import EncodedSample, SampleEncoder, ViewDecoder, finish
from distill3r_core.cache.shard import PREFIX, Entry, ShardReader, ShardWriter, shard_folders
from distill3r_core.errors import CacheError, DamageError
from distill3r_core.system.allocator import keep_freed_memory
from distill3r_core.types import TeacherTargets

_KEPT_BLOCK, _KEPT = 1 << 26, 1 << 28  # bytes


@dataclass(frozen=True)
class CachedSample:
    """A sample as it was stored, finished on the CPU."""

    name: str  # `<dataset>/<scene_id>/<window>`
    split: str
    images: UInt8[Tensor, "N 3 H W"]  # RGB at the student's size
    targets: TeacherTargets  # in float32
    image_hashes: tuple[str, ...]  # hash of each view's source image


@dataclass(frozen=True)
class ViewBuffers:
    """The caller's memory for views that are read; numpy views of shared or pinned tensors do.

    Args:
        planes: Float16 words, as many planes as `TeacherCache.planes`.
        mask: 1 where valid.
        images: RGB.
        global_from_local: `[sR | t]`.
        intrinsics: K of each map; identity where the map is no depth map.
        own_global: Whether the planes of the global map are the teacher's own; where they are not,
            they are the similarity of the local map, rounded.
        local_only: Whether a view has no place in a common frame.
    """

    planes: np.ndarray  # uint16 (N, P, H, W)
    mask: np.ndarray  # uint8 (N, H, W)
    images: np.ndarray  # uint8 (N, 3, H, W)
    global_from_local: np.ndarray  # float32 (N, 3, 4)
    intrinsics: np.ndarray  # float32 (N, 3, 3)
    own_global: np.ndarray  # bool (N,)
    local_only: np.ndarray  # bool (N,)

    @classmethod
    def allocate(cls, views: int, planes: int, size: tuple[int, int]) -> "ViewBuffers":
        """Fresh memory for so many views."""
        return cls(
            planes=np.empty((views, planes, *size), np.uint16),
            mask=np.empty((views, *size), np.uint8),
            images=np.empty((views, 3, *size), np.uint8),
            global_from_local=np.empty((views, 3, 4), np.float32),
            intrinsics=np.empty((views, 3, 3), np.float32),
            own_global=np.empty(views, np.bool_),
            local_only=np.empty(views, np.bool_),
        )

    def fill(self, row: int, maps: memoryview, image: memoryview, decoder: ViewDecoder) -> None:
        """Unpack one view into a row."""
        camera = decoder.maps(maps, self.planes[row], self.mask[row])
        decoder.image(image, self.images[row])
        self.global_from_local[row] = camera.global_from_local
        self.intrinsics[row] = np.eye(3) if camera.intrinsics is None else camera.intrinsics
        self.own_global[row] = delivered_planes(camera.kind) == ALL_PLANES
        self.local_only[row] = bool(camera.kind & Kind.LOCAL_ONLY)

    def finished(self) -> TeacherTargets:
        """The targets in float32."""
        has_camera = self.planes.shape[1] == DEPTH_PLANES
        return finish(
            torch.from_numpy(self.planes.view(np.float16)),
            torch.from_numpy(self.mask),
            torch.from_numpy(self.global_from_local),
            torch.from_numpy(self.intrinsics) if has_camera else None,
            local_only=torch.from_numpy(self.local_only) if self.local_only.any() else None,
        )


def unpacked(sample: EncodedSample) -> TeacherTargets:
    """The targets that a reader will see of an encoded sample."""
    buffers = ViewBuffers.allocate(len(sample.maps), delivered_planes(sample.kind), sample.size)
    decoder = ViewDecoder()
    for row, (maps, image) in enumerate(zip(sample.maps, sample.images, strict=True)):
        buffers.fill(row, memoryview(maps), memoryview(image), decoder)
    return buffers.finished()


class TeacherCache:
    """Reads a teacher cache: any views of any finished sample, from any thread or process.

    Args:
        plan: What it is to hold, where that is not (yet) what its header says.
        header: Its header, where its file is damaged; see `header_copies.rebuild_header`.

    Raises:
        InputMissingError: There is no cache.
        ConflictError: It has another format version.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        plan: tuple[PlannedSample, ...] | None = None,
        header: CacheHeader | None = None,
    ) -> None:
        self.path = Path(path)
        self.header = read_header(self.path) if header is None else header
        if plan is not None:
            self.header = replace(self.header, plan=plan)
        self._threads = threading.local()
        self._forget()
        # The maps of a sample are made anew for each: 20 views of 112x154 took 150 to 210 ms with
        # fresh pages, 75 with these (2026-11-29, one core).
        keep_freed_memory(block=_KEPT_BLOCK, kept=_KEPT)

    def _forget(self) -> None:
        # Filled when first read, without a lock: a fork could inherit one that is held.
        self._by_name: dict[str, PlannedSample] | None = None
        self._index: dict[str, tuple[ShardReader, Entry]] | None = None
        self._planes: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (TeacherCache, (self.path,))

    @property
    def _planned(self) -> dict[str, PlannedSample]:
        if self._by_name is None:
            self._by_name = {sample.name: sample for sample in self.header.plan}
        return self._by_name

    @property
    def _finished(self) -> dict[str, tuple[ShardReader, Entry]]:
        if self._index is None:
            found: dict[str, tuple[ShardReader, Entry]] = {}
            planned = self._planned
            for shard in map(ShardReader, shard_folders(self.path)):
                refuse_foreign_shard(shard, self.header.identity)
                for name, entry in shard.entries():
                    if name in planned and planned[name].content == entry.content:
                        found.setdefault(name, (shard, entry))
            self._index = found
        return self._index

    def refresh(self) -> None:
        """Look again: a writer may have finished more samples."""
        self.header = read_header(self.path)
        self._forget()

    def names(self, split: str | None = None) -> list[str]:
        """Samples that are planned and finished, in the plan's order."""
        return [
            sample.name
            for sample in self.header.plan
            if sample.name in self._finished and split in (None, sample.split)
        ]

    def missing(self) -> list[str]:
        """Samples that are planned and not finished."""
        return [s.name for s in self.header.plan if s.name not in self._finished]

    def entry(self, name: str) -> Entry:
        """Size, number of views and stored bytes of a finished sample.

        Raises:
            CacheError: It is not in the cache.
        """
        return self.place(name)[1]

    def detail(self, name: str) -> Mapping[str, Any]:
        """Where a sample came from: its images' paths, hashes, and what was counted."""
        shard, entry = self.place(name)
        return shard.detail(entry)

    def size_of(self, name: str) -> tuple[int, int]:
        """Rows and columns of a finished sample.

        Raises:
            CacheError: It is not in the cache.
        """
        return self.entry(name).size

    @property
    def planes(self) -> int:
        """How many planes a view has in a batch of any samples; see `maps_layout`."""
        if self._planes is None:
            kinds = {delivered_planes(entry.kind) for _, entry in self._finished.values()}
            if ALL_PLANES in kinds:
                self._planes = ALL_PLANES
            else:
                self._planes = DEPTH_PLANES if kinds == {DEPTH_PLANES} else LOCAL_PLANES
        return self._planes

    def read(self, name: str, views: Sequence[int] | None = None) -> CachedSample:
        """A sample, or some of its views.

        Args:
            views: Which ones, in the order in which they are wanted; None: all.

        Raises:
            CacheError: It is not in the cache.
            DamageError: Its bytes are not those that were written.
        """
        _, entry = self.place(name)
        chosen = range(entry.views) if views is None else views
        buffers = ViewBuffers.allocate(len(chosen), delivered_planes(entry.kind), entry.size)
        self.read_into(name, chosen, buffers)
        targets = buffers.finished()
        hashes = self.detail(name)["pictures"]
        return CachedSample(
            name=name,
            split=self._planned[name].split,
            images=torch.from_numpy(buffers.images),
            targets=targets,
            image_hashes=tuple(hashes[view] for view in chosen),
        )

    def read_into(self, name: str, views: Sequence[int], buffers: ViewBuffers) -> None:
        """Unpack views of a sample straight into the caller's memory.

        Raises:
            CacheError: It is not in the cache.
            DamageError: Its bytes are not those that were written.
        """
        shard, entry = self.place(name)
        decoder = self._decoder()
        for row, view in enumerate(views):
            with naming(f"{self.path}: sample {name}, view {view}"):
                maps, image = shard.maps(entry, view), shard.image(entry, view)
                buffers.fill(row, maps, image, decoder)

    def feature_shape(self, name: str, layer: str) -> tuple[int, int, int]:
        """Rows, columns and channels of a sample's features of a layer.

        Raises:
            CacheError: The sample, or the layer, is not in the cache.
            DamageError: Its bytes are not those that were written.
        """
        shard, entry = self.place(name)
        self.require_layer(layer)
        with naming(f"{self.path}: sample {name}, features/{layer}"):
            return self._decoder().features.shape(shard.features(entry, 0, layer))

    def read_features_into(
        self, name: str, layer: str, views: Sequence[int], out: Float16[np.ndarray, "N h w C"]
    ) -> None:
        """Unpack features of a layer straight into the caller's memory.

        Raises:
            CacheError: The sample, or the layer, is not in the cache.
            DamageError: Its bytes are not those that were written.
        """
        shard, entry = self.place(name)
        self.require_layer(layer)
        decoder = self._decoder().features
        for row, view in enumerate(views):
            with naming(f"{self.path}: sample {name}, view {view}, features/{layer}"):
                decoder.decode(shard.features(entry, view, layer), out[row])

    def require_layer(self, layer: str) -> None:
        """Refuse a layer that the header does not declare.

        Raises:
            CacheError: No features of the layer are stored.
        """
        known = ", ".join(self.header.features) or "none"
        if layer not in self.header.features:
            raise CacheError(
                f"{self.path} holds no teacher features of the layer {layer!r}",
                hint=f"layers that it holds: {known}",
            )

    def place(self, name: str) -> tuple[ShardReader, Entry]:
        """The shard that has a finished sample, and its entry there.

        Raises:
            CacheError: It is not in the cache.
        """
        try:
            return self._finished[name]
        except KeyError:
            hint = f"finish it with `distill3r cache --resume -o {self.path}`"
            if name not in self._planned:
                first = next(iter(self._planned), None)
                hint = f"none of its samples has that name; the first is {first!r}"
            raise CacheError(f"{self.path} has no finished sample {name!r}", hint=hint) from None

    def _decoder(self) -> ViewDecoder:
        # One per thread, and not one that was half-way through a record when the process forked.
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.decoder = os.getpid(), ViewDecoder()
        return self._threads.decoder


class CacheWriter:
    """Writes samples of one rank into its own shard of a cache.

    Args:
        path: The cache's folder; made where it is missing.

    Raises:
        ConflictError: The cache there was made with other settings, the folder holds something
            else, or another process writes to this shard.
    """

    def __init__(self, path: Path | str, header: CacheHeader, *, shard: int = 0) -> None:
        self.path = Path(path)
        published = publish_header(self.path, header)
        folder = self.path / f"{PREFIX}{shard:04d}"
        self._shard = ShardWriter(folder)
        try:
            refuse_foreign_shard(ShardReader(folder), published.identity)
            self._shard.keep_header(published.identity, header_text(published))
        except BaseException:
            self._shard.close()
            raise
        self._exact, self._layers = header.codec == "exact", set(header.features)

    def encoder(self) -> SampleEncoder:
        """An encoder for one thread."""
        return SampleEncoder(exact_global=self._exact)

    def put(self, sample: EncodedSample) -> None:
        """Store an encoded sample durably, all of it or nothing."""
        self.put_all((sample,))

    def put_all(self, samples: Sequence[EncodedSample]) -> None:
        """Store encoded samples in one transaction: all of them, or nothing."""
        for sample in samples:
            assert set(sample.features) == self._layers, "a sample has the layers of the header"
        self._shard.put_all(samples)

    def close(self) -> None:
        """Give the shard free."""
        self._shard.close()

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Say where damage is."""
    try:
        yield
    except DamageError as error:
        raise type(error)(
            f"{place}: {error.message}",
            hint=error.hint or "`distill3r cache verify --repair`, then `cache --resume`",
        ) from error
