"""`bench train`: what a training step costs, beside the loop of the original project."""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths, profiling
from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.data.batches import Batch, Samples
from distill3r_core.io.fit import Fit
from distill3r_core.models import SPECS, build_student
from distill3r_core.profiling import pick_device
from distill3r_core.report import Progress, Report, Silent, Table
from distill3r_core.stages.bench.ablation.scenes import true_scene
from distill3r_core.stages.bench.train_loops import Loops, Parts
from distill3r_core.stages.outputs import claim, read_record, write_record
from distill3r_core.stages.train.student import freeze_unused
from distill3r_core.training.distributed import World
from distill3r_core.training.feed import Feed, build_feed
from distill3r_core.training.settings import PRESETS, DataSettings, Recompute, TrainSettings

PARTS = ("data", "forward", "backward", "optimizer")
_SAMPLES = 4  # in the made-up cache
_READ_AHEAD, _RATED = 4, 20  # batches that the loader starts with, and that it is timed over
_FRAMES = 20  # of each
_DEFAULT_SIZE = (224, 518)

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=config.STRICT)
class BenchTrainSettings:
    """What is measured."""

    preset: str = "small"
    batch: Count = 4
    views: Annotated[int, Field(ge=2, le=_FRAMES)] = 8
    size: tuple[int, int] | None = None  # None: the preset's
    rounds: Count = 5  # timed steps of each kind, in turns
    recompute: Recompute = "none"
    output: Path | None = None
    device: str = "auto"
    seed: int = 0
    model: dict[str, Any] | None = None  # changes to the preset's student

    @field_validator("size", mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        """`112x154`, as it is typed."""
        return [int(side) for side in value.split("x")] if isinstance(value, str) else value


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
    """
    device = pick_device(settings.device)
    SPECS[settings.preset]  # an unknown name is said before anything is made
    plain = config.as_plain(settings)
    identity = {key: value for key, value in plain.items() if key != "output"}
    identity["machine"] = profiling.machine(device)
    default = paths.RESULTS / "bench" / f"train-{settings.preset}"
    claimed = claim(default, chosen=settings.output, identity=identity, overwrite=overwrite)
    if claimed.finished:
        found = read_record(claimed.folder)["result"]
        return _report(plain, found, claimed.folder, before=True)
    with tempfile.TemporaryDirectory(prefix="distill3r-bench-") as folder:
        result = _measure(settings, Path(folder) / "cache", device, progress)
    write_record(claimed.folder, identity=identity, result=result)
    return _report(plain, result, claimed.folder, before=False)


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
    student = build_student(settings.preset, **(settings.model or {})).train()
    student.recompute = settings.recompute  # type: ignore[assignment]  # no tensor
    freeze_unused(student)
    loops = Loops(student.to(device), recipe, device)
    batches = feed.batches(0)
    ours: list[Parts] = []
    theirs: list[Parts] = []
    progress.begin("timing steps", total=2 * (settings.rounds + 1), unit="steps")
    with profiling.peak_memory(device) as peak:
        for _ in range(settings.rounds + 1):
            started = time.perf_counter()
            batch = _finished(next(batches), device)
            waited = time.perf_counter() - started
            ours.append(replace(loops.batched(batch), data=waited))
            progress.advance(1, **{"batched s": ours[-1].seconds})
            theirs.append(loops.one_at_a_time(batch))
            progress.advance(1, **{"one at a time s": theirs[-1].seconds})
    batches.close()
    loader = _loader_rate(feed, settings, device)
    step = statistics.median(part.seconds for part in ours[1:])
    baseline = statistics.median(part.seconds for part in theirs[1:])
    return {
        "step": _medians(ours[1:]),
        "one_at_a_time": _medians(theirs[1:]),
        "ratio": baseline / step,
        "ratio_cpu": statistics.median(part.cpu for part in theirs[1:])
        / statistics.median(part.cpu for part in ours[1:]),
        "rounds": settings.rounds,
        "data_wait_share": statistics.median(p.data / (p.data + p.seconds) for p in ours[1:]),
        "samples_per_second": {"loader": loader, "needed": settings.batch / step},
        "peak_bytes_of_both": peak.bytes,
        "size": list(size),
        "machine": profiling.machine(device),
    }


def _medians(parts: Sequence[Parts]) -> dict[str, float]:
    names = asdict(parts[0])
    return {name: statistics.median(getattr(part, name) for part in parts) for name in names}


def _loader_rate(feed: Feed, settings: BenchTrainSettings, device: torch.device) -> float:
    """Samples a second that arrive, finished, when nobody else computes."""
    with closing(feed.batches(0)) as batches:
        for batch in islice(batches, _READ_AHEAD):
            _finished(batch, device)
        started = time.perf_counter()
        for batch in islice(batches, _RATED):
            _finished(batch, device)
        return _RATED * settings.batch / (time.perf_counter() - started)


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
        licence="Apache-2.0",
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


def _report(
    plain: Mapping[str, Any], result: Mapping[str, Any], folder: Path, *, before: bool
) -> Report:
    def row(label: str, parts: Mapping[str, float], *, data: bool) -> tuple[str, ...]:
        cells = [f"{parts['data']:.3f}" if data else "–"]
        cells += [f"{parts[name]:.3f}" for name in PARTS[1:]]
        return (
            label,
            *cells,
            f"{sum(parts[name] for name in PARTS[1:]):.3f}",
            f"{parts['cpu']:.3f}",
        )

    rates = result["samples_per_second"]
    return Report(
        settings=plain,
        result=result,
        files=[folder / "run.json"],
        tables=[
            Table(
                f"A step, median of {result['rounds']}, seconds",
                ("", *PARTS, "computing", "CPU"),
                (
                    row("batched", result["step"], data=True),
                    row("one sample at a time", result["one_at_a_time"], data=False),
                ),
            )
        ],
        notes=[
            f"batched is {result['ratio']:.2f} times as fast ({result['ratio_cpu']:.2f} in CPU "
            f"time); waiting for data: {result['data_wait_share']:.1%} of a step; the loader "
            f"gives {rates['loader']:.1f} samples/s, a step needs {rates['needed']:.1f}",
            *([f"{folder} is finished: nothing was done"] if before else []),
        ],
        finished_before=before,
    )
