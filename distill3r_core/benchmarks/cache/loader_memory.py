"""Memory of a loader, measured in a process of its own.

Run as `python -m distill3r_core.benchmarks.cache.loader_memory KIND FOLDER VIEWS BATCH WORKERS`,
where KIND is release or ring; prints bytes.
"""

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from distill3r_core.benchmarks.cache.original_baseline import OriginalDataset, original_loader
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import SampleRequest

_BATCHES = 4
_INTERVAL = 0.01  # seconds between two samples


def main(kind: str, folder: Path, views: int, batch: int, workers: int) -> int:
    """Peak memory of loading, beyond what the process had before, in bytes.

    The page cache is not counted: the system can drop it.
    """
    torch.set_num_threads(1)
    before = tree_memory()
    with PeakTreeMemory() as watch:
        if kind == "release":
            folders = sorted(path.parent for path in folder.rglob("consolidated.npz"))
            data = OriginalDataset(folders, views, views)
            for held in original_loader(data, batch=batch, batches=_BATCHES, workers=workers):
                del held
        else:
            cache = TeacherCache(folder)
            every = tuple(range(views))
            rng = random.Random(0)
            wanted = [
                [SampleRequest(n, every) for n in rng.choices(cache.names(), k=batch)]
                for _ in range(_BATCHES)
            ]
            with RingLoader(cache, threads=workers) as loader:
                for _ in loader.batches(wanted):
                    pass
    return watch.peak - before


class PeakTreeMemory:
    """Peak memory of this process and its children while the block runs.

    It is sampled continuously: workers hold the most between two batches.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "PeakTreeMemory":
        self._sampling = self._pool.submit(self._sample)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._pool.shutdown()
        self._sampling.result()  # raises what was raised there

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, tree_memory())
            if self._over.wait(_INTERVAL):
                return


def tree_memory() -> int:
    """Anonymous and shared bytes of this process and its children, pages shared counted once."""
    process = psutil.Process()
    return sum(_process_memory(one) for one in (process, *process.children(recursive=True)))


def _process_memory(process: psutil.Process) -> int:
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):  # no Linux, or the process has ended
        with suppress(psutil.NoSuchProcess):
            return process.memory_full_info().uss
        return 0
    lines = [line.split() for line in text.splitlines()]
    return sum(int(n) * 1024 for name, n, *_ in lines if name in ("Pss_Anon:", "Pss_Shmem:"))


if __name__ == "__main__":
    _, kind, folder, *numbers = sys.argv
    print(main(kind, Path(folder), *map(int, numbers)))  # noqa: T201  its result, for the parent
