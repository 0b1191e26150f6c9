"""Sizes, writing and reading of single records, ours and the original's in turns."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill3r_core.benchmarks.cache import original_baseline
from distill3r_core.benchmarks.cache.rgbd_samples import SIZE, VARIANTS, RgbdSamples
from distill3r_core.cache.maps.maps_layout import ALL_PLANES, LOCAL_PLANES
from distill3r_core.cache.sample_codec import SampleEncoder, ViewDecoder
from distill3r_core.cache.shard import ShardWriter

_DECODED = 5  # decoded views per round
_WARM_COMMITS = 3  # the first commits also allocate memory that later ones reuse


@dataclass(frozen=True)
class Measurement:
    """Ratios and medians by name."""

    ratios: Mapping[str, float]
    medians: Mapping[str, float]


def sizes(source: RgbdSamples) -> Measurement:
    """Bytes of the targets of one sample."""
    ratios, medians = {}, {}
    for variant in VARIANTS:
        targets = source.targets(0, variant)
        theirs = original_baseline.save_targets(source.original_folder(0, variant), targets)
        views = source.views
        medians[f"bytes_{variant}_baseline_per_view"] = theirs / views
        for exact in (False, True):
            encoded = SampleEncoder(exact_global=exact).encode(
                "sample", "", source.images(0), targets, {}
            )
            ours = sum(map(len, encoded.maps))
            name = f"bytes_{variant}" + ("_exact" if exact else "")
            medians[f"{name}_per_view"] = ours / views
            if exact:
                medians[f"{name}_ratio"] = ours / theirs
            else:
                ratios[name] = ours / theirs
    return Measurement(ratios, medians)


def writing(source: RgbdSamples, *, rounds: int) -> Measurement:
    """CPU time of storing targets, durably in ours; fills the cache and the baseline's folders.

    Without images on both sides, as the original stores none at the student's size; the time of
    ours with them is a median of its own.
    """
    theirs, ours, with_images = [], [], []
    encoder = SampleEncoder()
    blank = source.images(0)[:, :, :1, :1]
    with ShardWriter(source.work / "written") as shard, source.writer() as writer:
        for turn in range(max(rounds, source.samples)):
            sample = turn % source.samples
            targets, images = source.targets(sample, "noisy"), source.images(sample)
            start = time.process_time()
            original_baseline.save_targets(source.original_folder(sample, "noisy"), targets)
            theirs.append(time.process_time() - start)
            start = time.process_time()
            shard.put(encoder.encode(f"sample-{turn}", "", blank, targets, {}))
            ours.append(time.process_time() - start)
            start = time.process_time()
            writer.put(source.encode(encoder, sample, images, targets))
            with_images.append(time.process_time() - start)
    medians = {
        "write_cpu_seconds_baseline": statistics.median(theirs),
        "write_cpu_seconds": statistics.median(ours),
        "write_cpu_seconds_with_pictures": statistics.median(with_images),
    }
    return Measurement(
        {"write_cpu": medians["write_cpu_seconds"] / medians["write_cpu_seconds_baseline"]}, medians
    )


def all_bytes(source: RgbdSamples) -> Measurement:
    """Bytes of targets and images together, over all samples."""
    theirs = ours = 0
    for sample in range(source.samples):
        folder = source.original_folder(sample, "noisy")
        theirs += sum(path.stat().st_size for path in folder.iterdir())
        entry = source.cache().entry(source.name(sample))
        ours += entry.maps_bytes + entry.images_bytes
    each = source.samples * source.views
    return Measurement(
        {"bytes_all": ours / theirs},
        {"bytes_all_baseline_per_view": theirs / each, "bytes_all_per_view": ours / each},
    )


def commits(source: RgbdSamples, *, rounds: int) -> Measurement:
    """Wall time of storing a sample's records durably, against writing and syncing a plain file."""
    sample = SampleEncoder().encode("sample", "", source.images(0), source.targets(0, "noisy"), {})
    plain, stored = [], []
    os.sync()  # what earlier measurements wrote is not part of this one
    with ShardWriter(source.work / "committed") as shard:
        for turn in range(_WARM_COMMITS + 8 * rounds):
            start = time.perf_counter()
            _write_synced(source.work / f"plain-{turn}", [*sample.maps, *sample.images])
            middle = time.perf_counter()
            shard.put(sample)
            if turn >= _WARM_COMMITS:
                plain.append(middle - start)
                stored.append(time.perf_counter() - middle)
    # Pair by pair: the load of the disk changes.
    ratio = statistics.median(ours / theirs for ours, theirs in zip(stored, plain, strict=True))
    medians = {
        "fdatasync_ms": 1e3 * statistics.median(plain),
        "commit_ms": 1e3 * statistics.median(stored),
    }
    return Measurement({"commit_over_fdatasync": ratio}, medians)


def decoding(source: RgbdSamples, *, rounds: int) -> Measurement:
    """CPU time of reading a view's targets: all planes, and without the global map."""
    targets = source.targets(0, "noisy")
    folder = source.original_folder(0, "noisy")
    chosen = min(_DECODED, source.views)
    default, exact = (
        [
            memoryview(record)
            for record in SampleEncoder(exact_global=bits)
            .encode("sample", "", source.images(0), targets, {})
            .maps[:chosen]
        ]
        for bits in (False, True)
    )
    decoder, mask = ViewDecoder(), np.empty(SIZE, np.uint8)
    planes = {count: np.empty((count, *SIZE), np.uint16) for count in (LOCAL_PLANES, ALL_PLANES)}

    def run(blobs: list[memoryview], count: int) -> None:
        for blob in blobs:
            decoder.maps(blob, planes[count], mask)

    seconds = time_in_turns(
        {
            "baseline": lambda: original_baseline.load_targets(folder),
            "all": lambda: run(default, ALL_PLANES),
            "exact": lambda: run(exact, ALL_PLANES),
            "device": lambda: run(default, LOCAL_PLANES),
        },
        rounds=2 * rounds,
    )
    least = {
        name: timing.least / (source.views if name == "baseline" else chosen)
        for name, timing in seconds.items()
    }
    ratios = {name: least["baseline"] / least[name] for name in ("all", "exact", "device")}
    return Measurement(
        {"decode_cpu": ratios["all"], "decode_cpu_device_global": ratios["device"]},
        {
            "decode_cpu_ms_per_view_baseline": 1e3 * seconds["baseline"].median / source.views,
            "decode_cpu_ms_per_view": 1e3 * seconds["all"].median / chosen,
            "decode_cpu_ms_per_view_exact": 1e3 * seconds["exact"].median / chosen,
            "decode_cpu_ms_per_view_device_global": 1e3 * seconds["device"].median / chosen,
            "decode_cpu_exact_ratio": ratios["exact"],
        },
    )


def image_decoding(source: RgbdSamples, *, rounds: int) -> Measurement:
    """CPU time of reading a view's image at the student's size."""
    chosen = min(_DECODED, source.views)
    folder = source.original_folder(0, "noisy")
    cache, decoder, out = source.cache(), ViewDecoder(), np.empty((3, *SIZE), np.uint8)
    shard, entry = cache.place(source.name(0))
    stored = [bytes(shard.image(entry, view)) for view in range(chosen)]

    def ours() -> None:
        for record in stored:
            decoder.image(memoryview(record), out)

    def theirs() -> None:
        for view in range(chosen):
            original_baseline.load_image(folder / f"{view}.png")

    seconds = time_in_turns({"theirs": theirs, "ours": ours}, rounds=2 * rounds)
    return Measurement(
        {"image_decode_cpu": seconds["theirs"].least / seconds["ours"].least},
        {
            "image_decode_cpu_ms_baseline": 1e3 * seconds["theirs"].median / chosen,
            "image_decode_cpu_ms": 1e3 * seconds["ours"].median / chosen,
        },
    )


@dataclass(frozen=True)
class Timing:
    """CPU seconds over all rounds. Ratios use the least, which other work disturbs least."""

    least: float
    median: float


def time_in_turns(
    functions: Mapping[str, Callable[[], object]], *, rounds: int
) -> dict[str, Timing]:
    """Time each function, in turns, so that changes of the machine's load affect all of them."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            seconds[name].append(time.process_time() - start)
    return {name: Timing(min(each), statistics.median(each)) for name, each in seconds.items()}


def _write_synced(path: Path, parts: list[bytes]) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        # In one call, as LMDB does: several calls are slower on some machines.
        written = os.writev(descriptor, parts)
        assert written == sum(map(len, parts)), f"{path}: {written} bytes written"
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
