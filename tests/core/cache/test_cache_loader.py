"""The ring of batches: the same numbers as single reads, in memory that does not grow."""

import random

import pytest
import torch
from cache_material import SIZE, a_header, fill, pictures

from distill3r_core.cache.shard import ShardWriter
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loader import Request, RingLoader
from distill3r_core.errors import CacheError
from distill3r_core.stages.bench.cache.memory import tree_memory


def requests(cache: TeacherCache, count: int, *, seed: int = 0) -> list[list[Request]]:
    rng = random.Random(seed)
    return [[Request(rng.choice(cache.names()), (1, 0)) for _ in range(2)] for _ in range(count)]


@pytest.mark.parametrize("kind", [{}, {"depth": True}, {"independent": True}])
def test_batches_are_finished_to_what_single_reads_give(tmp_path, kind):
    fill(tmp_path, a_header(), **kind)
    cache = TeacherCache(tmp_path)
    assert cache.planes == {"depth": 3, "independent": 8}.get(next(iter(kind), ""), 5)
    wanted = requests(cache, 5)
    with RingLoader(cache, samples=2, views=2, size=SIZE) as loader:
        for group, batch in zip(wanted, loader.batches(wanted), strict=True):
            assert batch.requests == tuple(group)
            images, targets = batch.finished(torch.device("cpu"))
            for row, request in enumerate(group):
                single = cache.read(request.name, request.views)
                assert torch.equal(images[row], single.images)
                for name in ("points_local", "points_global", "confidence_global", "valid_mask"):
                    assert torch.equal(getattr(targets, name)[row], getattr(single.targets, name))


def test_a_mixed_cache_is_delivered_in_the_planes_that_suit_all(tmp_path):
    header = a_header(2)
    fill(tmp_path, header, depth=True)
    with ShardWriter(tmp_path / "shard-0000") as writer:
        writer.drop("data/scene/001")
    only = type(header)(**(vars(header) | {"plan": header.plan[1:]}))
    fill(tmp_path, only, shard=1)
    fill(tmp_path / "whole", header, depth=True)
    from distill3r_core.cache.header import publish_header

    publish_header(tmp_path, header)
    cache = TeacherCache(tmp_path)
    assert cache.planes == 5
    with RingLoader(cache, samples=1, views=2, size=SIZE) as loader:
        (batch,) = loader.batches([[Request("data/scene/000", (0, 1))]])
        _, targets = batch.finished(torch.device("cpu"))
    exact = TeacherCache(tmp_path / "whole").read("data/scene/000").targets
    torch.testing.assert_close(
        targets.points_local[0], exact.points_local, rtol=2**-11, atol=2**-24
    )


def test_an_error_reaches_the_consumer_and_the_loader_can_be_used_again(tmp_path):
    fill(tmp_path, a_header())
    cache = TeacherCache(tmp_path)
    with RingLoader(cache, samples=2, views=2, size=SIZE) as loader:
        bad = [[Request("data/scene/000", (0, 1)), Request("nothing", (0, 1))]]
        with pytest.raises(CacheError, match="nothing"):
            list(loader.batches(bad))
        first = next(iter(loader.batches(requests(cache, 9))))  # and stops after one
        assert first.requests
        assert len([None for _ in loader.batches(requests(cache, 4))]) == 4


def test_memory_does_not_grow_over_epochs(tmp_path):
    size = (112, 154)
    header = a_header(3, size=size)
    from cache_material import smooth_targets

    from distill3r_core.cache.store import CacheWriter

    with CacheWriter(tmp_path, header) as writer:
        encoder = writer.encoder()
        for number, planned in enumerate(header.plan):
            images = pictures(seed=number, size=size)
            targets = smooth_targets(seed=number, size=size)
            detail = {"pictures": ["", ""]}
            writer.put(encoder.encode(planned.name, planned.content, images, targets, detail))
    cache = TeacherCache(tmp_path)
    with RingLoader(cache, samples=2, views=2, size=size) as loader:
        for _ in loader.batches(requests(cache, 20)):
            pass
        before = tree_memory()
        for epoch in range(5):
            for _ in loader.batches(requests(cache, 20, seed=epoch)):
                pass
        assert tree_memory() - before < 2_000_000
