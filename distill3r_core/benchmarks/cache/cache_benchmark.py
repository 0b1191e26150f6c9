"""Measure the teacher cache beside the original project's format, in one run."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config, profiling
from distill3r_core.benchmarks.cache import loader_speed as loaders
from distill3r_core.benchmarks.cache import record_timings as records
from distill3r_core.benchmarks.cache.cache_report import publish, report_of
from distill3r_core.benchmarks.cache.rgbd_samples import Material, find_frames, fingerprint
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.benchmark.result_folder import place_for
from distill3r_core.training.settings import Count

_WORK = ".work-"  # the folder with both caches; beside the result, as it is the disk that counts


@dataclass(frozen=True, config=config.STRICT)
class BenchCacheSettings:
    """Settings of `distill3r bench cache`."""

    frames: Path  # RGB-D frames, searched recursively
    views: Annotated[int, Field(ge=2)] = 20
    samples: Count = 3
    subset: Count = 8  # views of a sample that a training step shows
    rounds: Count = 5  # of every measurement; loaders take half as many
    workers: Count = 2
    output: Path | None = None  # None: results/bench/cache-NNN, the next number


def bench_cache(
    settings: BenchCacheSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Build targets from RGB-D frames and measure both formats on them, by turns.

    Args:
        settings: See `BenchCacheSettings`.
        overwrite: Replace another result in `settings.output`.
        progress: Reports every measurement.

    Raises:
        ConflictError: `settings.output` holds another result.
        InputMissingError: There are too few frames.
    """
    frames = find_frames(settings.frames, settings.views * settings.samples)
    plain = config.as_plain(settings)
    place = place_for(
        "cache",
        plain,
        chosen=settings.output,
        inputs=fingerprint(frames),
        overwrite=overwrite,
    )
    if place.finished:
        return report_of(place, plain, place.result())
    for left in place.folder.glob(f"{_WORK}*"):  # of a run that was killed
        shutil.rmtree(left)
    ratios: dict[str, float] = {}
    medians: dict[str, float] = {}
    # One thread on both sides; workers are what is counted.
    with (
        profiling.one_thread(),
        tempfile.TemporaryDirectory(dir=place.folder, prefix=_WORK) as work,
    ):
        material = Material(frames, settings.views, Path(work))
        steps = {
            "sizes": lambda: records.sizes(material),
            "writing": lambda: records.writing(material, rounds=settings.rounds),
            "all bytes": lambda: records.all_bytes(material),
            "commits": lambda: records.commits(material, rounds=settings.rounds),
            "decoding": lambda: records.decoding(material, rounds=settings.rounds),
            "pictures": lambda: records.pictures(material, rounds=settings.rounds),
            "loaders": lambda: loaders.speed(
                material,
                subset=min(settings.subset, settings.views),
                rounds=(settings.rounds + 1) // 2,
                workers=settings.workers,
            ),
            "memory": lambda: loaders.memory(material, workers=settings.workers),
        }
        progress.begin("bench cache", total=len(steps), unit="measurements")
        for measure in steps.values():
            found = measure()
            ratios |= found.ratios
            medians |= found.medians
            shown = {name: f"{value:.3g}" for name, value in found.ratios.items()}
            progress.advance(1, **shown)
    return publish(place, settings=plain, ratios=ratios, medians=medians)
