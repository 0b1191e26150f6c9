"""`bench train`: the cost of a training step, beside the loop of the original project."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.benchmarks.ablation.rendered_rooms import true_scene
from distill3r_core.benchmarks.training.step_loops import StepLoops
from distill3r_core.benchmarks.training.step_report import report_of
from distill3r_core.benchmarks.training.timed_loop import TimedLoop
from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.loading.batches import Batch, Samples
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import OutOfMemoryError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.models.families import StudentSize, train_presets
from distill3r_core.profiling import DeviceName, pick_device, synchronize
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.benchmark.result_folder import claim_folder
from distill3r_core.stages.benchmark.settings import PresetName
from distill3r_core.stages.train.student import freeze_unused
from distill3r_core.training.distributed import World
from distill3r_core.training.feed import build_feed
from distill3r_core.training.settings import (
    Count,
    Recompute,
    TrainSettings,
)
from distill3r_core.training.step import prepare_memory

_SAMPLES = 4  # of the rendered cache
_FRAMES = 20  # of each sample
_DEFAULT_SIZE = (224, 518)
_WARM_UP = {"cpu": 1, "cuda": 3}  # steps
_AHEAD = 4  # batches per reader: at least as many as it prepares at once


@dataclass(frozen=True, config=config.STRICT)
class BenchTrainSettings:
    """Settings of `bench train`."""

    preset: PresetName = "small"
    batch: Count = 4
    views: Annotated[int, Field(ge=2, le=_FRAMES)] = 8
    size: StudentSize | None = None  # None: the preset's
    rounds: Count = 5  # timed steps of each loop, in turns
    recompute: Recompute = "none"  # of the batched loop; the other one keeps everything
    compare: Literal["one-at-a-time", "none"] = "one-at-a-time"
    output: Path | None = None
    device: DeviceName = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    model: dict[str, Any] | None = None  # changes to the preset's student


def bench_train(
    settings: BenchTrainSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Time steps of the trainer and of the original project's loop, in turns, on rendered rooms.

    Student and terms are those of a run that learns no meters.

    Args:
        overwrite: Replace another result in the chosen folder.
        progress: Receives every step.

    Raises:
        DeviceError: The named device is absent.
        ConflictError: The chosen folder holds another result.
        OutOfMemoryError: No loop fits into memory.
    """
    device = pick_device(settings.device)
    prepare_memory(device)
    folder = claim_folder(
        f"train-{settings.preset}",
        config.as_plain(settings),
        chosen=settings.output,
        device=device,
        overwrite=overwrite,
    )
    if folder.finished:
        return report_of(folder, folder.read())
    with tempfile.TemporaryDirectory(prefix="distill3r-bench-") as work:
        result = _measure(settings, Path(work) / "cache", device, progress)
    folder.write(result)
    return report_of(folder, result)


def _measure(
    settings: BenchTrainSettings, folder: Path, device: torch.device, progress: Progress
) -> dict[str, Any]:
    recipe = config.validate(TrainSettings, train_presets()[settings.preset], source="the preset")
    recipe = replace(recipe, compute=replace(recipe.compute, recompute=settings.recompute))
    size = settings.size or recipe.data.size or _DEFAULT_SIZE
    progress.begin("rendering a cache", total=_SAMPLES, unit="samples")
    feed = build_feed(
        CacheUnion([_rendered_cache(folder, size, settings.seed, progress)]),
        replace(
            recipe.data,
            size=None,
            batch=settings.batch,
            accumulation=1,
            views=settings.views,
            span=None,
            hold=False,  # read from disk, as in a long run
        ),
        validation_samples=1,
        seed=settings.seed,
        world=World(),
        device=device,
    )
    student = build_student(settings.preset, **(settings.model or {})).train()
    freeze_unused(student)
    steps = StepLoops(student.to(device), recipe, device)
    ours = TimedLoop(steps.batched, steps.release_memory, device)
    theirs = None
    if settings.compare != "none":
        theirs = TimedLoop(steps.one_at_a_time, steps.release_memory, device)
    loops = [loop for loop in (ours, theirs) if loop is not None]
    with closing(feed.batches(0)) as batches:
        first = _on_device(next(batches), device)  # closed: nothing overwrites its memory
    warm_up = _WARM_UP.get(device.type, 1)
    progress.begin("warming up", total=len(loops) * (warm_up + 1), unit="steps")
    # One after the other: the memory of the first is not counted as the second's.
    for loop in loops:
        for _ in range(warm_up):
            loop.attempt(first)
            progress.advance()
        loop.measure_memory(first)
        progress.advance()
    _check_one_fits(loops)
    progress.begin("reading", total=None, unit="batches")
    with closing(feed.batches(1)) as batches:
        loader = _loader_rate(batches, device, readers=feed.workers, samples=settings.batch)
    progress.begin("timing steps", total=settings.rounds * (1 + len(loops)), unit="steps")
    with closing(feed.batches(1)) as batches:
        waits = _data_waits(ours, batches, device, settings.rounds, progress)
    for _ in range(settings.rounds):
        for loop in loops:
            loop.time(first)
            progress.advance()
    _check_one_fits(loops)
    return {
        "step": {**ours.figures(), **waits},
        "one_at_a_time": None if theirs is None else theirs.figures(),
        **_ratios(ours, theirs),
        "rounds": settings.rounds,
        "samples_per_second": {
            "loader": loader,
            "needed": None if ours.out_of_memory else settings.batch / ours.median,
        },
        "size": list(size),
    }


def _check_one_fits(loops: Sequence[TimedLoop]) -> None:
    if all(loop.out_of_memory for loop in loops):
        raise OutOfMemoryError(
            f"a step does not fit into memory: {loops[0].out_of_memory}",
            hint="--recompute all, or a smaller --batch, --views or --size",
        )


def _data_waits(
    loop: TimedLoop,
    batches: Iterator[Samples],
    device: torch.device,
    rounds: int,
    progress: Progress,
) -> dict[str, float]:
    """Time that a loop waits for data when its steps follow each other, as in a run."""
    waits, shares = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        batch = _on_device(next(batches), device)
        waited = time.perf_counter() - started
        timing = loop.attempt(batch)
        if timing is None:
            return {}
        waits.append(waited)
        shares.append(waited / (waited + timing.seconds))
        progress.advance()
    return {"data": statistics.median(waits), "data_share": statistics.median(shares)}


def _ratios(ours: TimedLoop, theirs: TimedLoop | None) -> dict[str, Any]:
    """How many times as long the other loop takes; None where one of them did not run."""
    if theirs is None or ours.out_of_memory or theirs.out_of_memory:
        return {"ratio": None, "ratio_of_pairs": None, "ratio_cpu": None}
    pairs = [b.seconds / a.seconds for a, b in zip(ours.timings, theirs.timings, strict=True)]
    cpu = [statistics.median(timing.cpu for timing in loop.timings) for loop in (ours, theirs)]
    return {
        "ratio": theirs.median / ours.median,
        "ratio_of_pairs": {"least": min(pairs), "most": max(pairs)},
        "ratio_cpu": cpu[1] / cpu[0],
    }


def _loader_rate(
    batches: Iterator[Samples], device: torch.device, *, readers: int, samples: int
) -> float:
    """Samples per second of the loader while nothing else computes.

    Batches that were prepared before are skipped, then as many again are timed as the readers
    prepare at once.
    """
    ahead = _AHEAD * max(1, readers)
    for batch in islice(batches, ahead):
        _on_device(batch, device)
    started = time.perf_counter()
    for batch in islice(batches, ahead):
        _on_device(batch, device)
    return ahead * samples / (time.perf_counter() - started)


def _on_device(batch: Samples, device: torch.device) -> Batch:
    moved = batch.to(device)
    synchronize(device)
    return moved


def _rendered_cache(
    folder: Path, size: tuple[int, int], seed: int, progress: Progress
) -> TeacherCache:
    """A cache of rendered rooms with exact targets."""
    plan = tuple(
        PlannedSample(f"rooms/{number}/000", f"room-{number}", "train")
        for number in range(_SAMPLES)
    )
    header = CacheHeader(
        teacher="exact rooms",
        license="Apache-2.0",
        weights_hash=None,
        size=size,
        fit=ImageFit(size=size).as_plain(),
        threshold=None,
        metric=True,
        plan=plan,
    )
    with CacheWriter(folder, header) as writer:
        encoder = writer.encoder()
        for number, planned in enumerate(plan):
            room = true_scene(seed + number, _FRAMES, size)
            detail = {"pictures": [f"{number}-{view}" for view in range(_FRAMES)]}
            sample = encoder.encode(
                planned.name, planned.content, room.images, room.targets, detail
            )
            writer.put(sample)
            progress.advance()
    return TeacherCache(folder)
