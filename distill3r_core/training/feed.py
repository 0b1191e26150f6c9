"""From a teacher cache to the batches of a run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.data import DataLoader, Sampler

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.batches import Batch, Draw, share_of, step_draws
from distill3r_core.data.dataset import DrawnSamples, Held, Source, Use
from distill3r_core.errors import DamageError, Distill3rError
from distill3r_core.training.distributed import World
from distill3r_core.training.interrupts import leave_signals_to_parent
from distill3r_core.training.settings import DataSettings

HELD_SHARE = 0.2  # of the free memory, at most, for samples that stay in it
_PIXEL_BYTES = 3 + 4 * (3 + 1 + 1) + 1  # colors, points, two confidences, mask
_WORKERS = {"cuda": 8, "cpu": 1}


@dataclass(frozen=True)
class Feed:
    """Where the batches of a run come from.

    Args:
        source: The cache, or its samples in memory.
        cache: The folder they come from.
        train: Names of the training samples, by what a step's samples have in common.
        held_out: Names of the validation samples that are looked at.
        available: Views of each sample.
        data: Settings.
        size: The student's, for landscape; None: samples are read at that size already.
        seed: Of order and draws.
        world: The processes.
        workers: Processes that read.
        pinned: Whether batches go to a GPU.
    """

    source: Source
    cache: Path
    train: Mapping[object, Sequence[str]]
    held_out: Sequence[str]
    available: dict[str, int]
    data: DataSettings
    size: tuple[int, int] | None
    seed: int
    world: World
    workers: int
    pinned: bool

    @property
    def effective_batch(self) -> int:
        """Samples of an optimiser step, over all processes."""
        return self.data.batch * self.data.accumulation * self.world.size

    def batches(self, start: int) -> Iterator[Batch]:
        """This process's share of every step from `start` on, without end."""
        use = Use(
            views=self.data.views,
            augment_views=self.data.augment_views,
            mirror=self.data.mirror,
            colors=self.data.colors,
            random_view_numbers=self.data.random_view_numbers,
            seed=self.seed,
        )
        draws = _Draws(self, start)
        return self._load(use, draws, workers=self.workers)

    def validation(self) -> Iterator[Batch]:
        """This process's share of the validation samples, one at a time, always the same way."""
        use = Use(views=self.data.views, augment_views=False, random_view_numbers=False)
        mine = self.held_out[self.world.rank :: self.world.size]
        draws = [(Draw(name, number),) for number, name in enumerate(mine)]
        return self._load(use, draws, workers=0)

    def _load(
        self, use: Use, draws: "_Draws | list[tuple[Draw, ...]]", *, workers: int
    ) -> Iterator[Batch]:
        samples = DrawnSamples(self.source, self.available, use, size=self.size)
        loader: DataLoader[Any] = DataLoader(
            samples,
            batch_size=None,
            sampler=draws,
            num_workers=workers,
            pin_memory=self.pinned,
            prefetch_factor=2 if workers else None,
            worker_init_fn=leave_signals_to_parent if workers else None,
            generator=torch.Generator(),  # else it draws from torch's own, which is the run's
        )
        for loaded in loader:
            if isinstance(loaded, Distill3rError):
                with naming_repair(self.cache):
                    raise loaded
            yield loaded


class _Draws(Sampler[tuple[Draw, ...]]):
    """The draws of one process, from some step on."""

    def __init__(self, feed: Feed, start: int) -> None:
        self._feed, self._start = feed, start

    def __iter__(self) -> Iterator[tuple[Draw, ...]]:
        feed = self._feed
        steps = step_draws(feed.train, size=feed.effective_batch, seed=feed.seed)
        share = partial(share_of, rank=feed.world.rank, processes=feed.world.size)
        return map(share, islice(steps, self._start, None))


def build_feed(
    cache: TeacherCache,
    data: DataSettings,
    *,
    validation_samples: int,
    seed: int,
    world: World,
    device: torch.device,
) -> Feed:
    """Sort a cache's finished samples for a run; read them into memory where that is cheap.

    Args:
        cache: With at least one training sample.
        data: What a step is made of; `size` is that of the student.
        validation_samples: How many held-out samples to look at, at most.
        seed: Of order and draws.
        world: The processes.
        device: Where batches go.
    """
    entries = {name: cache.entry(name) for name in cache.names()}
    buckets: dict[object, list[str]] = {}
    for name in cache.names("train"):
        entry = entries[name]
        shown = entry.views if data.views is None else min(data.views, entry.views)
        buckets.setdefault((*entry.size, shown), []).append(name)
    every = cache.names("val")
    step = max(1, -(-len(every) // validation_samples))
    held_out = every[::step]
    used = [*(name for names in buckets.values() for name in names), *held_out]
    available = {name: entries[name].views for name in used}
    hold = data.hold
    if hold is None:
        hold = _held_bytes(cache, available, data.size) <= HELD_SHARE * _free_memory(world)
    workers = data.workers
    if workers is None:
        workers = 0 if hold else min(_WORKERS.get(device.type, 1), os.cpu_count() or 1)
    with naming_repair(cache.path):
        source = Held(cache, used, size=data.size) if hold else cache
    return Feed(
        source=source,
        cache=cache.path,
        train=buckets,
        held_out=held_out,
        available=available,
        data=data,
        size=None if hold else data.size,
        seed=seed,
        world=world,
        workers=workers,
        pinned=device.type == "cuda",
    )


def _held_bytes(
    cache: TeacherCache, views: Mapping[str, int], size: tuple[int, int] | None
) -> float:
    def pixels(name: str) -> int:
        height, width = size or cache.entry(name).size
        return height * width

    return float(sum(count * pixels(name) * _PIXEL_BYTES for name, count in views.items()))


def _free_memory(world: World) -> float:
    return psutil.virtual_memory().available / world.size


@contextmanager
def naming_repair(cache: Path) -> Iterator[None]:
    """Add to an error about a damaged cache the commands that repair it.

    Raises:
        DamageError: The block found damage.
    """
    try:
        yield
    except DamageError as error:
        raise DamageError(
            error.message,
            hint=f"`distill3r cache verify --repair {cache}`, then `distill3r cache --resume "
            f"-o {cache}`, then `distill3r train --resume`",
        ) from error
