"""The ring of batches: the same numbers as single reads, in memory that does not grow."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from cache_material import a_header, fill, pictures

from distill3r_core.benchmarks.cache.loader_memory import tree_memory
from distill3r_core.cache.header import publish_header
from distill3r_core.cache.shard import ShardWriter
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading import augment
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.errors import CacheError


def requests(cache: TeacherCache, count: int, *, seed: int = 0) -> list[list[SampleRequest]]:
    rng = random.Random(seed)
    return [
        [SampleRequest(rng.choice(cache.names()), (1, 0)) for _ in range(2)] for _ in range(count)
    ]


@pytest.mark.parametrize("kind", [{}, {"depth": True}, {"independent": True}])
def test_batches_are_finished_to_what_single_reads_give(tmp_path, kind):
    fill(tmp_path, a_header(), **kind)
    cache = TeacherCache(tmp_path)
    assert cache.planes == {"depth": 3, "independent": 8}.get(next(iter(kind), ""), 5)
    wanted = requests(cache, 5)
    with RingLoader(cache) as loader:
        for group, batch in zip(wanted, loader.batches(wanted), strict=True):
            assert batch.requests == tuple(group)
            finished = batch.to(torch.device("cpu"))
            images, targets = finished.images, finished.targets
            for row, request in enumerate(group):
                single = cache.read(request.name, request.views)
                assert torch.equal(images[row], single.images)
                for name in ("points_local", "points_global", "confidence_global", "valid_mask"):
                    assert torch.equal(getattr(targets, name)[row], getattr(single.targets, name))


@pytest.mark.parametrize("kind", [{}, {"depth": True}, {"independent": True}])
def test_every_sample_is_changed_as_its_own_request_says(tmp_path, kind):
    fill(tmp_path, a_header(), **kind)
    cache = TeacherCache(tmp_path)
    colors = augment.draw_colors(2, np.random.default_rng(0))
    group = [
        SampleRequest("data/scene/000", (1, 0), 7, reanchored=True, mirrored=True, colors=colors),
        SampleRequest("data/scene/001", (0, 1), 8, colors=colors + 1, view_numbers=(0, 9)),
        SampleRequest("data/scene/000", (1, 0), 9, reanchored=True, colors=colors + 2),
        SampleRequest("data/scene/001", (0, 1), 10, mirrored=True, colors=colors + 3),
    ]
    with RingLoader(cache) as loader:
        (stored,) = loader.batches([group])
        whole = stored.to(torch.device("cpu"))
        parts = [stored.rows(row, row + 1).to(torch.device("cpu")) for row in range(4)]
    assert [draw.number for draw in whole.draws] == [7, 8, 9, 10]
    assert whole.view_numbers.tolist() == [[0, 1], [0, 9], [0, 1], [0, 1]]
    assert whole.colors is not None
    assert whole.targets.points_local.is_contiguous()  # else the loss is slow
    for row, request in enumerate(group):
        single = cache.read(request.name, request.views)
        images, targets = single.images, single.targets
        if request.reanchored:
            targets = augment.anchor_first(targets)
        if request.mirrored:
            images, targets = augment.mirror_images(images), augment.mirror_targets(targets)
        for batch, at in ((whole, row), (parts[row], 0)):
            assert torch.equal(batch.images[at], images)
            for name in ("points_local", "points_global", "confidence_global", "valid_mask"):
                assert torch.equal(getattr(batch.targets, name)[at], getattr(targets, name)), name
            assert torch.equal(batch.targets.global_from_local[at], targets.global_from_local)
        assert (whole.colors[row].numpy() == request.colors).all()


def test_beside_independent_maps_a_similarity_stays_exact(tmp_path):
    header = a_header(2)
    for number, kind in enumerate(({}, {"independent": True})):
        part = replace(header, plan=header.plan[number : number + 1])
        fill(tmp_path / "both", part, seed=number, shard=number, **kind)
    publish_header(tmp_path / "both", header)
    cache = TeacherCache(tmp_path / "both")
    assert cache.planes == 8
    group = [SampleRequest(planned.name, (1, 0), reanchored=True) for planned in header.plan]
    with RingLoader(cache) as loader:
        (stored,) = loader.batches([group])
        targets = stored.to(torch.device("cpu")).targets
    for row, request in enumerate(group):
        expected = augment.anchor_first(cache.read(request.name, request.views).targets)
        assert torch.equal(targets.points_global[row], expected.points_global)


def test_batches_of_any_shape_go_through_one_ring(tmp_path):
    fill(tmp_path, a_header())
    cache = TeacherCache(tmp_path)
    shapes = [(1, 2), (3, 1), (2, 2), (1, 1), (3, 2)]  # samples, views
    wanted = [[SampleRequest("data/scene/000", (1, 0)[:views])] * count for count, views in shapes]
    single = cache.read("data/scene/000", (1, 0))
    with RingLoader(cache) as loader:
        for (count, views), batch in zip(shapes, loader.batches(wanted), strict=True):
            images = batch.to(torch.device("cpu")).images
            assert torch.equal(images, single.images[None, :views].expand(count, -1, -1, -1, -1))


def test_torch_keeps_its_threads_outside_of_the_loader(tmp_path):
    fill(tmp_path, a_header())
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with RingLoader(TeacherCache(tmp_path), threads=2) as loader:
            next(iter(loader.batches(requests(TeacherCache(tmp_path), 1))))
            with ThreadPoolExecutor(1) as other:
                assert other.submit(torch.get_num_threads).result() == 3
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_mixed_cache_is_delivered_in_the_planes_that_suit_all(tmp_path):
    header = a_header(2)
    fill(tmp_path, header, depth=True)
    with ShardWriter(tmp_path / "shard-0000") as writer:
        writer.drop("data/scene/001")
    only = type(header)(**(vars(header) | {"plan": header.plan[1:]}))
    fill(tmp_path, only, shard=1)
    fill(tmp_path / "whole", header, depth=True)
    publish_header(tmp_path, header)
    cache = TeacherCache(tmp_path)
    assert cache.planes == 5
    with RingLoader(cache) as loader:
        (batch,) = loader.batches([[SampleRequest("data/scene/000", (0, 1))]])
        targets = batch.to(torch.device("cpu")).targets
    exact = TeacherCache(tmp_path / "whole").read("data/scene/000").targets
    torch.testing.assert_close(
        targets.points_local[0], exact.points_local, rtol=2**-11, atol=2**-24
    )


def test_an_error_reaches_the_consumer_and_the_loader_can_be_used_again(tmp_path):
    fill(tmp_path, a_header())
    cache = TeacherCache(tmp_path)
    with RingLoader(cache) as loader:
        bad = [[SampleRequest("data/scene/000", (0, 1)), SampleRequest("nothing", (0, 1))]]
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
    with RingLoader(cache) as loader:
        for _ in loader.batches(requests(cache, 20)):
            pass
        before = tree_memory()
        for epoch in range(5):
            for _ in loader.batches(requests(cache, 20, seed=epoch)):
                pass
        assert tree_memory() - before < 2_000_000
