"""Batches come from the cache as the settings say, whichever way they are read."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from small_caches import depth_maps

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.augment import crop_images, crop_targets
from distill3r_core.data.loading.batches import Batch
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.nearby_views import see_from
from distill3r_core.data.loading.sample_requests import DrawSettings, request_of
from distill3r_core.data.loading.teacher_features import CachedFeatures
from distill3r_core.errors import CacheError
from distill3r_core.training.distributed import World
from distill3r_core.training.feed import Feed, build_feed
from distill3r_core.training.settings import DataSettings

MakeCache = Callable[..., Path]
WIDE, TALL = (28, 42), (42, 28)


def feed_of(cache: Path, *, world: World | None = None, **data: object) -> Feed:
    return build_feed(
        CacheUnion([TeacherCache(cache)]),
        DataSettings(**{"batch": 2, "accumulation": 1, **data}),
        validation_samples=32,
        seed=0,
        world=world or World(),
        device=torch.device("cpu"),
    )


def first_batches(feed: Feed, count: int, *, start: int = 0) -> list[Batch]:
    """Finished: what the loader gives lies in memory that it uses again."""
    with closing(feed.batches(start)) as batches:
        return [batch.to(torch.device("cpu")) for batch in islice(batches, count)]


def looks(feed: Feed) -> list[Batch]:
    return [batch.to(torch.device("cpu")) for batch in feed.validation()]


def assert_same(first: Batch, second: Batch) -> None:
    assert first.draws == second.draws
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.view_numbers, second.view_numbers)
    torch.testing.assert_close(first.targets, second.targets, rtol=0, atol=0)


CHANGED = {"mirror": True, "colors": True, "zoom": 1.5, "aspect": 1.2}
NEARBY = {"turn": 15.0, "shift": 0.2}


@pytest.mark.parametrize("size", [None, (14, 28)])
@pytest.mark.parametrize("nearby", [{}, NEARBY])
def test_memory_disk_and_any_number_of_threads_give_the_same_batches(
    size: tuple[int, int] | None, nearby: dict[str, float], make_cache: MakeCache, tmp_path: Path
) -> None:
    change = {"change": depth_maps} if nearby else {}
    cache = make_cache(tmp_path / "cache", **change)
    ways = ({"hold": True}, {"hold": False, "workers": 1}, {"hold": False, "workers": 3})
    changed = {**CHANGED, **nearby}
    found = [first_batches(feed_of(cache, size=size, **changed, **way), 6) for way in ways]
    for batches in zip(*found, strict=True):
        assert_same(batches[0], batches[1])
        assert_same(batches[0], batches[2])


def test_a_later_start_continues_the_same_order(make_cache: MakeCache, tmp_path: Path) -> None:
    feed = feed_of(make_cache(tmp_path / "cache"))
    whole = first_batches(feed, 7)
    for expected, found in zip(whole[4:], first_batches(feed, 3, start=4), strict=True):
        assert_same(found, expected)


def test_landscape_and_portrait_share_a_run_but_no_step(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", sizes=[WIDE, TALL, WIDE, TALL])
    shapes = {tuple(batch.images.shape[-2:]) for batch in first_batches(feed_of(cache), 8)}
    assert shapes == {WIDE, TALL}


def test_processes_read_the_parts_of_one_step(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache")
    (whole,) = first_batches(feed_of(cache), 1)
    for row in (0, 1):
        (part,) = first_batches(feed_of(cache, batch=1, world=World(rank=row, size=2)), 1)
        assert_same(part, whole.rows(row, row + 1))


def test_validation_looks_the_same_way_every_time(make_cache: MakeCache, tmp_path: Path) -> None:
    feed = feed_of(make_cache(tmp_path / "cache"), views=3, **CHANGED)
    first, second = looks(feed), looks(feed)
    assert len(first) == len(second) == 2
    for one, other in zip(first, second, strict=True):
        assert_same(one, other)
    stored = TeacherCache(tmp_path / "cache").read(first[0].draws[0].name, [0, 1, 2])
    assert torch.equal(first[0].images[0], stored.images)
    assert torch.equal(first[0].targets.points_global[0], stored.targets.points_global)


def test_each_view_shows_the_part_of_it_that_was_drawn(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache")
    plain = first_batches(feed_of(cache), 4)
    shown = first_batches(feed_of(cache, zoom=2.0, aspect=1.2), 4)
    settings = DrawSettings(zoom=2.0, aspect=1.2, seed=feed_of(cache).seed)
    for whole, part in zip(plain, shown, strict=True):
        assert whole.draws == part.draws
        available = whole.images.shape[1]
        requests = [request_of(d, available=available, settings=settings) for d in whole.draws]
        crops = torch.from_numpy(np.stack([request.crops for request in requests]))
        assert torch.equal(part.images, crop_images(whole.images, crops))
        assert not torch.equal(part.images, whole.images)
        torch.testing.assert_close(part.targets, crop_targets(whole.targets, crops))


def test_each_view_is_seen_by_the_camera_that_was_drawn(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache", change=depth_maps)
    plain = first_batches(feed_of(cache, **CHANGED), 4)
    shown = first_batches(feed_of(cache, **CHANGED, **NEARBY), 4)
    settings = DrawSettings(**CHANGED, **NEARBY, seed=feed_of(cache).seed)
    for whole, part in zip(plain, shown, strict=True):
        assert whole.draws == part.draws
        available = whole.images.shape[1]
        requests = [request_of(d, available=available, settings=settings) for d in whole.draws]
        motions = torch.from_numpy(np.stack([request.motions for request in requests]))
        images, targets = see_from(whole.images, whole.targets, motions, anchored=True)
        assert torch.equal(part.images, images)
        assert not torch.equal(part.images, whole.images)
        torch.testing.assert_close(part.targets, targets)
        first = part.targets.global_from_local[:, 0]
        assert torch.equal(first, torch.eye(3, 4).expand_as(first))
        assert torch.equal(part.targets.points_global[:, 0], part.targets.points_local[:, 0])


def test_without_augmentation_views_stand_as_they_are_cached(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    cache = make_cache(tmp_path / "cache")
    (batch,) = first_batches(feed_of(cache, augment_views=False), 1)
    stored = TeacherCache(cache).read(batch.draws[0].name)
    assert torch.equal(batch.images[0], stored.images)
    torch.testing.assert_close(
        batch.targets.points_local[0], stored.targets.points_local, rtol=0, atol=0
    )


def test_at_most_so_many_samples_are_validated(make_cache: MakeCache, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", held_out=5)
    feed = build_feed(
        CacheUnion([TeacherCache(cache)]),
        replace(DataSettings(), batch=1),
        validation_samples=2,
        seed=0,
        world=World(),
        device=torch.device("cpu"),
    )
    assert len(feed.held_out) <= 2


def union_feed(*folders: Path, weights: dict[str, float], **changes: object) -> Feed:
    given = {"batch": 2, "accumulation": 1, "hold": False}
    features = changes.pop("features", None)
    caches = CacheUnion.open(folders, weights)
    return build_feed(
        caches,
        DataSettings(**{**given, **changes.pop("data", {})}),
        validation_samples=2,
        seed=0,
        world=changes.pop("world", World()),
        device=torch.device("cpu"),
        features=None if features is None else CachedFeatures(caches, features),
    )


def test_several_caches_are_one_order_however_the_work_is_divided(
    make_cache: MakeCache, tmp_path: Path
) -> None:
    layers = {"features": {"deep": 5}}
    folders = [
        make_cache(tmp_path / "a", sizes=[WIDE] * 4, held_out=3, **layers),
        make_cache(tmp_path / "b", sizes=[WIDE, WIDE], held_out=1, **layers),
    ]
    shared = {"weights": {"b": 3.0}, "features": ("deep",)}
    feed = union_feed(*folders, **shared)
    whole = first_batches(feed, 6)
    drawn = [draw.name for batch in whole for draw in batch.draws]
    assert sum(name.startswith("b:") for name in drawn) == 9  # three quarters
    for batch in whole:
        for row, draw in enumerate(batch.draws):
            label, _, name = draw.name.partition(":")
            cache = TeacherCache(tmp_path / label)
            stored = cache.read(name)
            views = [
                next(v for v in range(4) if torch.equal(stored.images[v], image))
                for image in batch.images[row]
            ]
            out = np.empty((4, *cache.feature_shape(name, "deep")), np.float16)
            cache.read_features_into(name, "deep", views, out)
            assert torch.equal(batch.features["deep"][row], torch.from_numpy(out))
    for expected, found in zip(whole[4:], first_batches(feed, 2, start=4), strict=True):
        assert_same(found, expected)
    for row in (0, 1):
        world = World(rank=row, size=2)
        (part,) = first_batches(union_feed(*folders, **shared, data={"batch": 1}, world=world), 1)
        assert_same(part, whole[0].rows(row, row + 1))
    (both,) = first_batches(union_feed(*folders, **shared, data={"batch": 1, "accumulation": 2}), 1)
    assert_same(both, whole[0])
    held_out = union_feed(*folders, **shared).held_out
    assert sorted({name.partition(":")[0] for name in held_out}) == ["a", "b"]
    assert len(held_out) == 2

    other = make_cache(tmp_path / "c", features={"deep": 6})
    with pytest.raises(CacheError, match=r"5 channels in .*a and 6 in .*c"):
        CachedFeatures(CacheUnion.open([folders[0], other]), ("deep",)).check(
            mirror=False, crops=False, nearby=False
        )
