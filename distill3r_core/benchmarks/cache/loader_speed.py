"""Speed and memory of loading batches, ours and the original's in turns."""

import random
import statistics
import subprocess
import sys
import time

import torch

from distill3r_core.benchmarks.cache import loader_memory as bench_cache_memory
from distill3r_core.benchmarks.cache import original_baseline
from distill3r_core.benchmarks.cache.record_timings import Measurement
from distill3r_core.benchmarks.cache.rgbd_samples import RgbdSamples
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.errors import FailedError

_BATCH, _MEMORY_BATCH = 2, 4  # samples
_SHORT, _LONG = 3, 24  # timed batches of the baseline and of ours


def speed(source: RgbdSamples, *, subset: int, rounds: int, workers: int) -> Measurement:
    """Samples per second with all views and with a subset, after a warm-up."""
    ratios, medians = {}, {}
    for name, views in (("full", source.views), ("subset", subset)):
        theirs, ours = [], []
        for _ in range(rounds):
            theirs.append(_original_rate(source, views, workers))
            ours.append(_ring_rate(source, views, workers))
        medians[f"loader_{name}_samples_per_second_baseline"] = statistics.median(theirs)
        medians[f"loader_{name}_samples_per_second"] = statistics.median(ours)
        ratios[f"loader_{name}"] = statistics.median(ours) / statistics.median(theirs)
    return Measurement(ratios, medians)


def memory(source: RgbdSamples, *, workers: int) -> Measurement:
    """Peak memory beyond the imports, each loader in a process of its own."""
    peaks = {}
    for kind, folder in (("release", source.work / "release"), ("ring", source.cache_folder)):
        arguments = [kind, folder, source.views, _MEMORY_BATCH, workers]
        module = bench_cache_memory.__name__
        found = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode:
            raise FailedError(f"measuring the memory of {kind} failed: {found.stderr.strip()}")
        peaks[kind] = int(found.stdout)
    return Measurement(
        {"loader_ram": peaks["ring"] / peaks["release"]},
        {"loader_ram_mb_baseline": peaks["release"] / 1e6, "loader_ram_mb": peaks["ring"] / 1e6},
    )


def _original_rate(source: RgbdSamples, views: int, workers: int) -> float:
    folders = [source.original_folder(sample, "noisy") for sample in range(source.samples)]
    data = original_baseline.OriginalDataset(folders, source.views, views)
    loader = original_baseline.original_loader(data, batch=_BATCH, batches=_SHORT, workers=workers)
    memory = torch.zeros(1 << 30, dtype=torch.uint8)
    for epoch in range(2):  # the first starts the workers and fills the page cache
        start = time.perf_counter()
        for batch in loader:
            original_baseline.stage(batch, memory)
        if epoch:
            return _BATCH * _SHORT / (time.perf_counter() - start)
    raise AssertionError


def _ring_rate(source: RgbdSamples, views: int, workers: int) -> float:
    cache, rng = source.cache(), random.Random(0)
    names = cache.names()

    def request() -> SampleRequest:
        return SampleRequest(
            rng.choice(names), tuple(sorted(rng.sample(range(source.views), views)))
        )

    wanted = [[request() for _ in range(_BATCH)] for _ in range(_LONG)]
    with RingLoader(cache, threads=workers) as loader:
        for _ in loader.batches(wanted[:4]):
            pass
        start = time.perf_counter()
        for _ in loader.batches(wanted):
            pass
        return _BATCH * _LONG / (time.perf_counter() - start)
