"""`bench cache`: the teacher cache beside the original project's format."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config, profiling
from distill3r_core.benchmarks.cache import loader_speed as loaders
from distill3r_core.benchmarks.cache import record_timings as records
from distill3r_core.benchmarks.cache.rgbd_samples import RgbdSamples, find_frames, fingerprint
from distill3r_core.report import Progress, Report, Silent, Table
from distill3r_core.stages.benchmark.result_folder import ResultFolder, claim_folder
from distill3r_core.training.settings import Count

_WORK = ".work-"  # folder of both caches, beside the result: the disk of the result is measured

_LABELS = {
    "bytes_clean": "bytes of targets, no noise",
    "bytes_noisy": "bytes of targets, 0.2 % noise",
    "bytes_independent": "bytes of targets, independent global map",
    "bytes_depth": "bytes of targets, depth times ray",
    "bytes_all": "bytes with images",
    "write_cpu": "CPU time to store a sample, durably",
    "commit_over_fdatasync": "commit against a synced plain file",
    "decode_cpu": "CPU time to read a view, all maps",
    "decode_cpu_device_global": "CPU time to read a view, global map on the device",
    "image_decode_cpu": "CPU time to read an image",
    "loader_full": "samples per second, all views",
    "loader_subset": "samples per second, a subset of the views",
    "loader_ram": "memory of the loader",
}


@dataclass(frozen=True, config=config.STRICT)
class BenchCacheSettings:
    """Settings of `distill3r bench cache`."""

    frames: Path  # folder of RGB-D frames, searched recursively
    views: Annotated[int, Field(ge=2)] = 20
    samples: Count = 3
    subset: Count = 8  # views per sample of a training step
    rounds: Count = 5  # rounds of every measurement; half as many of the loaders
    workers: Count = 2
    output: Path | None = None  # None: results/bench/cache-NNN, the next number


def bench_cache(
    settings: BenchCacheSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Build targets from RGB-D frames and measure both formats on them, in turns.

    Args:
        settings: See `BenchCacheSettings`.
        overwrite: Replace another result in `settings.output`.
        progress: Receives every measurement.

    Raises:
        ConflictError: `settings.output` holds another result.
        InputMissingError: There are too few frames.
    """
    frames = find_frames(settings.frames, settings.views * settings.samples)
    folder = claim_folder(
        "cache",
        config.as_plain(settings),
        chosen=settings.output,
        inputs=fingerprint(frames),
        overwrite=overwrite,
    )
    if folder.finished:
        return _report(folder, folder.read())
    for leftover in folder.folder.glob(f"{_WORK}*"):  # of a run that was killed
        shutil.rmtree(leftover)
    ratios: dict[str, float] = {}
    medians: dict[str, float] = {}
    # One thread on both sides: only workers count.
    with (
        profiling.one_thread(),
        tempfile.TemporaryDirectory(dir=folder.folder, prefix=_WORK) as work,
    ):
        source = RgbdSamples(frames, settings.views, Path(work))
        steps = {
            "sizes": lambda: records.sizes(source),
            "writing": lambda: records.writing(source, rounds=settings.rounds),
            "all bytes": lambda: records.all_bytes(source),
            "commits": lambda: records.commits(source, rounds=settings.rounds),
            "decoding": lambda: records.decoding(source, rounds=settings.rounds),
            "images": lambda: records.image_decoding(source, rounds=settings.rounds),
            "loaders": lambda: loaders.speed(
                source,
                subset=min(settings.subset, settings.views),
                rounds=(settings.rounds + 1) // 2,
                workers=settings.workers,
            ),
            "memory": lambda: loaders.memory(source, workers=settings.workers),
        }
        progress.begin("bench cache", total=len(steps), unit="measurements")
        for measure in steps.values():
            found = measure()
            ratios |= found.ratios
            medians |= found.medians
            shown = {name: f"{value:.3g}" for name, value in found.ratios.items()}
            progress.advance(1, **shown)
    result = {"ratios": ratios, "medians": medians}
    folder.write(result)
    return _report(folder, result)


def _report(folder: ResultFolder, result: Mapping[str, Any]) -> Report:
    """The report of a result: `ratios` and `medians` by name."""
    rows = tuple((_LABELS[name], f"{ratio:.3g}") for name, ratio in result["ratios"].items())
    return folder.report(
        result,
        tables=[Table("cache against the original's format", ("", "ratio"), rows)],
        notes=[
            "bytes, write, commit and memory: ours ÷ theirs; decode and loaders: theirs ÷ ours",
            "targets are made from RGB-D frames with noise, not a network's output",
        ],
    )
