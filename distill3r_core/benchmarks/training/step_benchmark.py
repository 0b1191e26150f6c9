"""`bench train`: what a training step costs, beside the loop of the original project."""

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
from distill3r_core.benchmarks.training.step_loops import Loops
from distill3r_core.benchmarks.training.step_report import report_of
from distill3r_core.benchmarks.training.timed_loop import Contestant
from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.batches import Batch, Samples
from distill3r_core.errors import OutOfMemoryError
from distill3r_core.io.images.fit import Fit
from distill3r_core.models import build_student
from distill3r_core.profiling import DeviceName, pick_device
from distill3r_core.report import Progress, Report, Silent
from distill3r_core.stages.benchmark.result_folder import place_for
from distill3r_core.stages.benchmark.settings import PresetName
from distill3r_core.stages.train.student import freeze_unused
from distill3r_core.training.distributed import World
from distill3r_core.training.feed import Feed, build_feed
from distill3r_core.training.settings import (
    PRESETS,
    Count,
    DataSettings,
    Recompute,
    Size,
    TrainSettings,
)
from distill3r_core.training.step import prepare_memory

_SAMPLES = 4  # in the made-up cache
_FRAMES = 20  # of each
_DEFAULT_SIZE = (224, 518)
_WARM_UP = {"cpu": 1, "cuda": 3}  # steps
_AHEAD = 4  # batches that each reader may have in hand, and more


@dataclass(frozen=True, config=config.STRICT)
class BenchTrainSettings:
    """What is measured."""

    preset: PresetName = "small"
    batch: Count = 4
    views: Annotated[int, Field(ge=2, le=_FRAMES)] = 8
    size: Size | None = None  # None: the preset's
    rounds: Count = 5  # timed steps of each kind, in turns
    recompute: Recompute = "none"  # of the batched loop; the other one keeps everything
    compare: Literal["one-at-a-time", "none"] = "one-at-a-time"
    output: Path | None = None
    device: DeviceName = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    model: dict[str, Any] | None = None  # changes to the preset's student


def bench_train(
    settings: BenchTrainSettings, *, overwrite: bool = False, progress: Progress = Silent()
) -> Report:
    """Time steps of the trainer and of the original project's loop, in turns, on made-up rooms.

    Args:
        settings: What is measured.
        overwrite: Replace another result in the folder that was named.
        progress: Where to report to.

    Raises:
        DeviceError: The device that was named is not there.
        ConflictError: The folder that was named holds another result.
        OutOfMemoryError: No loop fits into the memory.
    """
    device = pick_device(settings.device)
    prepare_memory(device)
    plain = config.as_plain(settings)
    place = place_for(
        f"train-{settings.preset}",
        plain,
        chosen=settings.output,
        device=device,
        overwrite=overwrite,
    )
    if place.finished:
        return report_of(place, plain, place.result())
    with tempfile.TemporaryDirectory(prefix="distill3r-bench-") as folder:
        result = _measure(settings, Path(folder) / "cache", device, progress)
    place.keep(result)
    return report_of(place, plain, result)


def _measure(
    settings: BenchTrainSettings, folder: Path, device: torch.device, progress: Progress
) -> dict[str, Any]:
    recipe = config.validate(TrainSettings, PRESETS[settings.preset], source="the preset")
    size = settings.size or recipe.data.size or _DEFAULT_SIZE
    progress.begin("making a cache", total=_SAMPLES, unit="samples")
    cache = _made_cache(folder, size, settings.seed, progress)
    data = replace(
        recipe.data, size=None, batch=settings.batch, accumulation=1, views=settings.views
    )
    feed = _feed(cache, data, settings, device)
    ours, theirs = _contestants(settings, recipe, device)
    there = [loop for loop in (ours, theirs) if loop is not None]
    with closing(feed.batches(0)) as batches:
        first = _finished(next(batches), device)  # closed: nothing overwrites its memory
    warm_up = _WARM_UP.get(device.type, 1)
    progress.begin("warming up", total=len(there) * (warm_up + 1), unit="steps")
    for loop in there:  # one after the other: what the second one reserves is not the first one's
        for _ in range(warm_up):
            loop.attempt(first)
            progress.advance()
        loop.examine(first)
        progress.advance()
    _refuse_if_none_fits(there)
    progress.begin("reading", total=None, unit="batches")
    with closing(feed.batches(1)) as batches:
        loader = _loader_rate(batches, device, readers=feed.workers, samples=settings.batch)
    progress.begin("timing steps", total=settings.rounds * (1 + len(there)), unit="steps")
    with closing(feed.batches(1)) as batches:
        waits = _waits(ours, batches, device, settings.rounds, progress)
    for _ in range(settings.rounds):
        for loop in there:
            loop.time(first)
            progress.advance()
    _refuse_if_none_fits(there)
    return {
        "step": {**ours.figures(), **waits},
        "one_at_a_time": None if theirs is None else theirs.figures(),
        **_ratios(ours, theirs),
        "rounds": settings.rounds,
        "samples_per_second": {
            "loader": loader,
            "needed": None if ours.out else settings.batch / ours.median,
        },
        "size": list(size),
    }


def _contestants(
    settings: BenchTrainSettings, recipe: TrainSettings, device: torch.device
) -> tuple[Contestant, Contestant | None]:
    """The trainer's loop and, unless it is left out, the original project's."""
    student = build_student(settings.preset, **(settings.model or {})).train()
    freeze_unused(student)
    recipe = replace(recipe, compute=replace(recipe.compute, recompute=settings.recompute))
    loops = Loops(student.to(device), recipe, device)
    ours = Contestant(loops.batched, loops.let_go, device)
    if settings.compare == "none":
        return ours, None
    return ours, Contestant(loops.one_at_a_time, loops.let_go, device)


def _refuse_if_none_fits(there: Sequence[Contestant]) -> None:
    if all(loop.out for loop in there):
        raise OutOfMemoryError(
            f"a step does not fit into memory: {there[0].out_of_memory}",
            hint="--recompute all, or a smaller --batch, --views or --size",
        )


def _waits(
    loop: Contestant,
    batches: Iterator[Samples],
    device: torch.device,
    rounds: int,
    progress: Progress,
) -> dict[str, float]:
    """What a loop waits for data when its steps follow each other, as in a run."""
    waits, shares = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        batch = _finished(next(batches), device)
        waited = time.perf_counter() - started
        parts = loop.attempt(batch)
        if parts is None:
            return {}
        waits.append(waited)
        shares.append(waited / (waited + parts.seconds))
        progress.advance()
    return {"data": statistics.median(waits), "data_share": statistics.median(shares)}


def _ratios(ours: Contestant, theirs: Contestant | None) -> dict[str, Any]:
    """How many times as long the other loop takes; None where one of them did not run."""
    if theirs is None or ours.out or theirs.out:
        return {"ratio": None, "ratio_of_pairs": None, "ratio_cpu": None}
    pairs = [b.seconds / a.seconds for a, b in zip(ours.timed, theirs.timed, strict=True)]
    cpu = [statistics.median(parts.cpu for parts in loop.timed) for loop in (ours, theirs)]
    return {
        "ratio": theirs.median / ours.median,
        "ratio_of_pairs": {"least": min(pairs), "most": max(pairs)},
        "ratio_cpu": cpu[1] / cpu[0],
    }


def _loader_rate(
    batches: Iterator[Samples], device: torch.device, *, readers: int, samples: int
) -> float:
    """Samples a second that arrive, finished, when nobody else computes.

    What lies ready is taken first. It takes as much again as the readers have in hand at once for
    the rate to be theirs.
    """
    ahead = _AHEAD * max(1, readers)
    for batch in islice(batches, ahead):
        _finished(batch, device)
    started = time.perf_counter()
    for batch in islice(batches, ahead):
        _finished(batch, device)
    return ahead * samples / (time.perf_counter() - started)


def _finished(batch: Samples, device: torch.device) -> Batch:
    there = batch.to(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return there


def _feed(
    cache: TeacherCache, data: DataSettings, settings: BenchTrainSettings, device: torch.device
) -> Feed:
    return build_feed(
        cache,
        replace(data, hold=False),  # from the disk, as in a long run
        validation_samples=1,
        seed=settings.seed,
        world=World(),
        device=device,
    )


def _made_cache(folder: Path, size: tuple[int, int], seed: int, progress: Progress) -> TeacherCache:
    plan = tuple(
        PlannedSample(f"rooms/{number}/000", f"room-{number}", "train")
        for number in range(_SAMPLES)
    )
    header = CacheHeader(
        teacher="exact rooms",
        license="Apache-2.0",
        weights_hash=None,
        size=size,
        fit=Fit(size=size).as_plain(),
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
