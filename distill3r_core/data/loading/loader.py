"""Batches straight from a teacher cache into memory that is used again and again.

Threads unpack stored views into a ring of batches that were allocated once, in page-locked memory
where a GPU reads them. What is delivered is what is stored (`data.stored_batch`); a device
finishes it. So nothing grows over epochs, and the CPU moves half the bytes. It is the one loader:
training, validation and `bench cache` read through it.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType

import torch

from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.data.loading.sample_sources import SampleSource
from distill3r_core.data.loading.stored_batch import BatchMemory, StoredBatch
from distill3r_core.data.loading.teacher_features import CachedFeatures
from distill3r_core.system.interrupts import defer_signals
from distill3r_core.system.threads import Pool, result_of


class RingLoader:
    """Reads batches ahead of their use, into memory that is allocated once.

    Args:
        source: Where samples are: a `TeacherCache`, or a source of `data.sample_sources`.
        threads: Number of threads that unpack samples. More than a few wait for Python's lock,
            and the trainer with them.
        slots: Batches in memory: the one in use, and those that are read ahead.
        pin: Page-locked memory, for copies to a GPU.
        features: Stored teacher features to read beside the samples.
    """

    def __init__(
        self,
        source: SampleSource,
        *,
        threads: int = 2,
        slots: int = 2,
        pin: bool = False,
        features: CachedFeatures | None = None,
    ) -> None:
        assert slots > 1, "one batch is in use while another one is filled"
        self._source, self._features = source, features
        self._ring = [BatchMemory(pin=pin) for _ in range(slots)]
        self._pool = _single_threaded(threads)

    def batches(self, wanted: Iterable[Sequence[SampleRequest]]) -> Iterator[StoredBatch]:
        """The batches that are asked for, in order. Each is valid until the next one is taken.

        Args:
            wanted: Per batch its samples, which have one size and equally many views.

        Raises:
            CacheError: A sample is not in the cache.
            DamageError: Its bytes are not those that were written.
        """
        free = deque(self._ring)
        begun: deque[tuple[BatchMemory, StoredBatch, list[Future[None]]]] = deque()
        requests = iter(wanted)
        try:
            while True:
                while free and (group := next(requests, None)) is not None:
                    arena = free.popleft()
                    begun.append((arena, *self._begin(arena, group)))
                if not begun:
                    return
                arena, batch, reads = begun[0]
                for read in reads:
                    result_of(read)
                begun.popleft()
                yield batch
                arena.fence.wait()
                free.append(arena)
        finally:
            with defer_signals():
                for _, _, reads in begun:  # the consumer stopped: free the ring before its reuse
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

    def _begin(
        self, arena: BatchMemory, group: Sequence[SampleRequest]
    ) -> tuple[StoredBatch, list["Future[None]"]]:
        sizes = {(self._source.size_of(request.name), len(request.views)) for request in group}
        assert len(sizes) == 1, f"samples of one batch differ in size or views: {sizes}"
        ((size, _),) = sizes
        shapes = {} if self._features is None else self._features.shapes(group[0].name)
        batch = arena.batch(group, planes=self._source.planes, size=size, features=shapes)
        return batch, [self._pool.submit(self._read, batch, row) for row in range(len(group))]

    def _read(self, batch: StoredBatch, row: int) -> None:
        request = batch.requests[row]
        self._source.read_into(request.name, request.views, batch.buffers(row))
        if self._features is not None:
            out = {layer: values[row].numpy() for layer, values in batch.features.items()}
            self._features.read_into(request.name, request.views, out)
        batch.make_ready(row)


def _single_threaded(threads: int) -> Pool:
    """Threads in which torch starts no teams of its own; elsewhere it does as before."""
    # The number is each thread's own, but what was set last is what new threads start with.
    before = torch.get_num_threads()
    started = threading.Barrier(threads + 1)
    pool = Pool(threads, "unpack", initializer=torch.set_num_threads, initargs=(1,))
    with defer_signals():
        for _ in range(threads):
            pool.submit(started.wait)
        started.wait()
    torch.set_num_threads(before)
    return pool
