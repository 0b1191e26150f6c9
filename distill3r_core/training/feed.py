"""From a teacher cache to the batches of a run."""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from types import MappingProxyType

import numpy as np
import torch

from distill3r_core.data.loading.batches import Draw, Portion, share_of, step_draws
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import DrawSettings, SampleRequest, request_of
from distill3r_core.data.loading.sample_sources import HeldSamples, ResizedCache, SampleSource
from distill3r_core.data.loading.sparse_samples import SparseSamples
from distill3r_core.data.loading.stored_batch import StoredBatch
from distill3r_core.data.loading.teacher_features import CachedFeatures
from distill3r_core.system.machine_memory import available_memory
from distill3r_core.training.distributed import World
from distill3r_core.training.settings import DataSettings

HELD_SHARE = 0.2  # of the free memory, at most, for samples that stay in it
# On a machine with an H100, two threads read twice what a `paper` step uses up; eight read no more
# than two, and a kernel took forty times as long to launch (docs/benchmarks.md).
_WORKERS = {"cuda": 2, "cpu": 1}
# `[sR | t]` by sample, see `SampleRequest.scene_from_stored`.
SceneTransforms = Mapping[str, np.ndarray]
_SLOTS = 3  # batches in memory: in use, ready, and being read


@dataclass(frozen=True)
class Feed:
    """Where the batches of a run come from.

    Args:
        train: Names of the training samples, by what a step's samples have in common.
        portions: Training samples by the weight of their cache; empty: all are drawn alike.
        labels: Label of the cache of each held-out sample; empty: there is one cache.
        features: Stored teacher features that are read beside the samples.
        scenes: What carries each sample into the frame of a scene; empty: anchors stay the frame.
    """

    source: SampleSource  # the caches at the student's size, or their samples in memory
    train: Mapping[object, Sequence[str]]
    held_out: Sequence[str]  # names of the validation samples that are looked at
    available: dict[str, int]
    data: DataSettings
    seed: int
    world: World
    workers: int
    pinned: bool  # whether batches go to a GPU
    portions: Sequence[Portion] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    features: CachedFeatures | None = None
    scenes: SceneTransforms = field(default_factory=dict)

    @property
    def effective_batch(self) -> int:
        """Samples of an optimizer step, over all processes."""
        return self.data.batch * self.data.accumulation * self.world.size

    def batches(self, start: int) -> Generator[StoredBatch, None, None]:
        """This process's share of every step from `start` on, without end.

        Each is valid until the next one is taken.
        """
        settings = DrawSettings(
            views=self.data.views,
            augment_views=self.data.augment_views,
            span=self.data.span,
            mirror=self.data.mirror,
            colors=self.data.colors,
            zoom=self.data.zoom,
            aspect=self.data.aspect,
            turn=self.data.turn,
            shift=self.data.shift,
            random_view_numbers=self.data.random_view_numbers,
            seed=self.seed,
        )
        steps = step_draws(
            self.train, size=self.effective_batch, seed=self.seed, portions=self.portions
        )
        mine = (
            share_of(draws, rank=self.world.rank, processes=self.world.size)
            for draws in islice(steps, start, None)
        )
        source = self.source
        if self.data.sparse is not None:
            source = SparseSamples(source, self.data.sparse, seed=self.seed)
        return self._load(settings, mine, source)

    def validation(self) -> Generator[StoredBatch, None, None]:
        """This process's share of the validation samples, one at a time, always the same way."""
        settings = DrawSettings(
            views=self.data.views, augment_views=False, random_view_numbers=False
        )
        mine = self.held_out[self.world.rank :: self.world.size]
        draws = ((Draw(name, number),) for number, name in enumerate(mine))
        return self._load(settings, draws, self.source)

    def _load(
        self, settings: DrawSettings, steps: Iterable[Sequence[Draw]], source: SampleSource
    ) -> Generator[StoredBatch, None, None]:
        def request(draw: Draw) -> SampleRequest:
            return request_of(
                draw,
                available=self.available[draw.name],
                settings=settings,
                scene_from_stored=self.scenes.get(draw.name),
            )

        wanted = ([request(draw) for draw in draws] for draws in steps)
        loader = RingLoader(
            source,
            threads=self.workers,
            slots=_SLOTS,
            pin=self.pinned,
            features=self.features,
        )
        with loader:
            yield from loader.batches(wanted)


def build_feed(
    cache: CacheUnion,
    data: DataSettings,
    *,
    validation_samples: int,
    seed: int,
    world: World,
    device: torch.device,
    features: CachedFeatures | None = None,
    scenes: SceneTransforms = MappingProxyType({}),
) -> Feed:
    """Sort the finished samples of caches for a run; read them into memory where that is cheap.

    Args:
        cache: With at least one training sample.
        data: What a step is made of; `size` is that of the student.
        validation_samples: How many held-out samples to look at, at most; at least one of each
            cache that has some.
        features: Stored teacher features to read beside the samples.
        scenes: What carries samples into the frame of a scene: they alone are used, where given.
    """
    entries = {name: cache.entry(name) for name in cache.names() if not scenes or name in scenes}
    buckets: dict[object, list[str]] = {}
    for name in filter(entries.__contains__, cache.names("train")):
        entry = entries[name]
        shown = entry.views if data.views is None else min(data.views, entry.views)
        key = (*entry.size, shown)
        if features is not None and cache.several:  # a step's features fit into one tensor, too
            key = (*key, *features.shapes(name).values())
        buckets.setdefault(key, []).append(name)
    groups = [
        [name for name in cache.names_of(one, "val") if name in entries] for one in cache.members
    ]
    held_out = _spread(groups, validation_samples)
    used = [*(name for names in buckets.values() for name in names), *held_out]
    available = {name: entries[name].views for name in used}
    hold = data.hold
    if hold is None:
        hold = (
            _held_bytes(cache, available, data.size) <= HELD_SHARE * available_memory() / world.size
        )
    source: SampleSource = cache if data.size is None else ResizedCache(cache, data.size)
    if hold:
        source = HeldSamples(source, available)
    return Feed(
        source=source,
        train=buckets,
        held_out=held_out,
        available=available,
        data=data,
        seed=seed,
        world=world,
        workers=data.workers or min(_WORKERS.get(device.type, 1), os.cpu_count() or 1),
        pinned=device.type == "cuda",
        portions=_used(cache.portions(), entries),
        labels={name: cache.place(name)[0].label for name in held_out} if cache.several else {},
        features=features,
        scenes=scenes,
    )


def _used(portions: Sequence[Portion], entries: Mapping[str, object]) -> tuple[Portion, ...]:
    """The portions without samples that are not used."""
    kept = [
        Portion(tuple(name for name in one.names if name in entries), one.weight)
        for one in portions
    ]
    return tuple(one for one in kept if one.names)


def _spread(groups: Sequence[Sequence[str]], most: int) -> list[str]:
    """Every so many of each group, at most so many in all, but one of each group."""
    groups = [names for names in groups if names]
    most = max(most, len(groups))
    step = next(step for step in count(1) if sum(-(-len(g) // step) for g in groups) <= most)
    return [name for names in groups for name in names[::step]]


def _held_bytes(cache: CacheUnion, views: Mapping[str, int], size: tuple[int, int] | None) -> float:
    def pixels(name: str) -> int:
        height, width = size or cache.entry(name).size
        return height * width

    each = 3 + 1 + 2 * cache.planes  # bytes: colors, mask, float16 planes
    return float(sum(count * pixels(name) * each for name, count in views.items()))
