"""Batches straight from a teacher cache into memory that is used again and again.

Threads unpack stored views into a ring of batches that were allocated once, in page-locked memory
where a GPU reads them. What is delivered is what is stored: float16 planes, bytes of pictures, a
few numbers per view. Float32, global maps and normalization are finished on the device. So nothing
grows over epochs, and the CPU moves half the bytes.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from distill3r_core.cache.maps_layout import DEPTH_PLANES
from distill3r_core.cache.sample_codec import finish
from distill3r_core.cache.store import TeacherCache, ViewBuffers
from distill3r_core.types import TeacherTargets


@dataclass(frozen=True)
class Request:
    """Views of a sample, in the order in which they are wanted."""

    name: str
    views: tuple[int, ...]


@dataclass
class StoredBatch:
    """Samples as they are stored. It is filled again when the next batch is asked for.

    Args:
        planes: As many as `TeacherCache.planes`.
        mask: 1 where valid.
        images: RGB.
        global_from_local: `[sR | t]`.
        intrinsics: K of each map; read where there are DEPTH_PLANES planes.
        requests: What it holds, row by row.
    """

    planes: Float16[Tensor, "B N P H W"]
    mask: UInt8[Tensor, "B N H W"]
    images: UInt8[Tensor, "B N 3 H W"]
    global_from_local: Float[Tensor, "B N 3 4"]
    intrinsics: Float[Tensor, "B N 3 3"]
    requests: tuple[Request, ...] = ()

    def __post_init__(self) -> None:
        self._copied: torch.cuda.Event | None = None

    @classmethod
    def allocate(
        cls, samples: int, views: int, planes: int, size: tuple[int, int], *, pin: bool
    ) -> "StoredBatch":
        """Memory for so many samples and views, page-locked if asked."""

        def fresh(*shape: int, dtype: torch.dtype) -> Tensor:
            # Touched here, so that the first epoch is as fast as the others.
            return torch.zeros((samples, views, *shape), dtype=dtype, pin_memory=pin)

        return cls(
            planes=fresh(planes, *size, dtype=torch.float16),
            mask=fresh(*size, dtype=torch.uint8),
            images=fresh(3, *size, dtype=torch.uint8),
            global_from_local=fresh(3, 4, dtype=torch.float32),
            intrinsics=fresh(3, 3, dtype=torch.float32),
        )

    def row(self, index: int) -> ViewBuffers:
        """The memory of one sample, for `TeacherCache.read_into`."""
        return ViewBuffers(
            planes=self.planes[index].numpy().view(np.uint16),
            mask=self.mask[index].numpy(),
            images=self.images[index].numpy(),
            global_from_local=self.global_from_local[index].numpy(),
            intrinsics=self.intrinsics[index].numpy(),
        )

    def finished(self, device: torch.device) -> tuple[UInt8[Tensor, "B N 3 H W"], TeacherTargets]:
        """Pictures and float32 targets on a device; copies run beside what the GPU does.

        On a CPU the pictures are this batch's own memory.
        """

        def move(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True)

        camera = move(self.intrinsics) if self.planes.shape[2] == DEPTH_PLANES else None
        planes, mask, images = move(self.planes), move(self.mask), move(self.images)
        targets = finish(planes, mask, move(self.global_from_local), camera)
        if device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record()
        return images, targets

    def wait(self) -> None:
        """Until a GPU has read it, after which it may be filled again."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None


class RingLoader:
    """Reads batches ahead of their use, into memory that is allocated once.

    Args:
        cache: Where samples are.
        samples: In a batch.
        views: Of each sample.
        size: Rows and columns of all samples that will be asked for.
        threads: That unpack.
        slots: Batches in memory: the one in use, and those that are read ahead.
        pin: Page-locked memory, for copies to a GPU.
    """

    def __init__(
        self,
        cache: TeacherCache,
        *,
        samples: int,
        views: int,
        size: tuple[int, int],
        threads: int = 2,
        slots: int = 2,
        pin: bool = False,
    ) -> None:
        assert slots > 1, "one batch is in use while another one is filled"
        self.cache = cache
        self._ring = [
            StoredBatch.allocate(samples, views, cache.planes, size, pin=pin) for _ in range(slots)
        ]
        self._rows = [[batch.row(index) for index in range(samples)] for batch in self._ring]
        self._pool = ThreadPoolExecutor(threads, "unpack")

    def batches(self, wanted: Iterable[Sequence[Request]]) -> Iterator[StoredBatch]:
        """The batches that are asked for, in order. Each is valid until the next one is taken.

        Raises:
            CacheError: A sample is not in the cache.
            DamageError: Its bytes are not those that were written.
        """
        free = deque(range(len(self._ring)))
        begun: deque[tuple[int, list[Future[None]]]] = deque()
        requests = iter(wanted)
        try:
            while True:
                while free and (group := next(requests, None)) is not None:
                    begun.append(self._begin(free.popleft(), group))
                if not begun:
                    return
                slot, reads = begun.popleft()
                for read in reads:
                    read.result()
                yield self._ring[slot]
                self._ring[slot].wait()
                free.append(slot)
        finally:
            for _, reads in begun:  # the consumer stopped: let go of the ring before it is reused
                for read in reads:
                    if not read.cancel():
                        read.exception()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "RingLoader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, slot: int, group: Sequence[Request]) -> tuple[int, list["Future[None]"]]:
        self._ring[slot].requests = tuple(group)
        return slot, [
            self._pool.submit(self.cache.read_into, request.name, request.views, row)
            for request, row in zip(group, self._rows[slot], strict=True)
        ]
