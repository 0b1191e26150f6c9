"""Stored samples at the student's size."""

from pathlib import Path

import pytest
import torch
from small_caches import write_cache

from distill3r_core.cache.header import CacheHeader, PlannedSample
from distill3r_core.cache.store import CacheWriter, TeacherCache, ViewBuffers
from distill3r_core.data.loading.sample_sources import (
    HeldSamples,
    ResizedCache,
    read_at,
    read_views,
)
from distill3r_core.data.loading.sparse_samples import SparseSamples
from distill3r_core.geometry.cameras import project, unproject
from distill3r_core.types import TeacherTargets

STORED, HALF = (16, 20), (8, 10)
CAMERA = torch.tensor([[20.0, 0, 10.3], [0, 21.0, 8.1], [0, 0, 1]])


def made(*, depth: bool) -> TeacherTargets:
    points = unproject(torch.full((1, *STORED), 2.0), CAMERA[None])
    valid = torch.ones(1, *STORED, dtype=torch.bool)
    valid[0, :4] = False
    ones = torch.ones(1, *STORED)
    return TeacherTargets(
        points_local=points,
        confidence_local=ones,
        confidence_global=ones,
        valid_mask=valid,
        global_from_local=torch.eye(3, 4)[None],
        intrinsics=CAMERA[None] if depth else None,
    )


def write(folder: Path, kinds: list[bool]) -> TeacherCache:
    """One sample each: of depth, or of points whose K is not known."""
    plan = tuple(PlannedSample(f"s/{n}/000", f"c{n}", "train") for n in range(len(kinds)))
    header = CacheHeader(
        teacher="made",
        license="none",
        weights_hash=None,
        size=STORED,
        fit={"size": list(STORED)},
        threshold=None,
        metric=True,
        plan=plan,
    )
    images = torch.arange(3 * 16 * 20, dtype=torch.int32).remainder(251).to(torch.uint8)
    with CacheWriter(folder, header) as writer:
        for planned, depth in zip(plan, kinds, strict=True):
            sample = writer.encoder().encode(
                planned.name,
                planned.content,
                images.reshape(1, 3, *STORED),
                made(depth=depth),
                {"pictures": [""]},
            )
            writer.put(sample)
    return TeacherCache(folder)


def read(source: ResizedCache | HeldSamples, name: str) -> ViewBuffers:
    buffers = ViewBuffers.allocate(1, source.planes, source.size_of(name))
    source.read_into(name, [0], buffers)
    return buffers


@pytest.mark.parametrize("mixed", [False, True])
def test_where_k_is_known_points_lie_on_the_rays_of_the_new_pixels(
    mixed: bool, tmp_path: Path
) -> None:
    cache = write(tmp_path, [True, False] if mixed else [True])
    assert cache.planes == (5 if mixed else 3)
    buffers = read(ResizedCache(cache, HALF), "s/0/000")
    targets = buffers.finished()
    seen = project(targets.points_local[0, 2:], torch.from_numpy(buffers.intrinsics)[0])
    rows, columns = torch.meshgrid(torch.arange(2, 8), torch.arange(10), indexing="ij")
    expected = torch.stack([columns + 0.5, rows + 0.5], dim=-1)
    # In a mixed cache x and y are rounded to float16: a hundredth of a pixel here.
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-2 if mixed else 1e-5)
    assert not targets.points_local[0, :2].any()
    assert not targets.valid_mask[0, :2].any()


def test_where_k_is_not_known_every_point_is_a_stored_one(tmp_path: Path) -> None:
    cache = write(tmp_path, [False])
    _, targets = read_at(cache, "s/0/000", size=HALF)
    stored = cache.read("s/0/000").targets.points_local[0]
    assert torch.equal(targets.points_local[0], stored[1::2, 1::2])


def test_held_samples_are_those_of_their_source(tmp_path: Path) -> None:
    resized = ResizedCache(write(tmp_path, [True, False]), HALF)
    held = HeldSamples(resized, {"s/0/000": 1, "s/1/000": 1})
    for name in ("s/0/000", "s/1/000"):
        for field, values in vars(read(resized, name)).items():
            assert (getattr(read(held, name), field) == values).all(), field


def test_a_sample_that_has_the_size_is_left_as_it_is(tmp_path: Path) -> None:
    cache = write(tmp_path, [False])
    images, targets = read_at(cache, "s/0/000", size=STORED)
    stored = cache.read("s/0/000")
    assert torch.equal(images, stored.images)
    assert torch.equal(targets.points_local, stored.targets.points_local)


def test_a_sparse_source_keeps_the_same_share_of_pixels_in_every_draw(tmp_path):
    cache = TeacherCache(write_cache(tmp_path / "cache", sizes=((70, 98),), held_out=0))
    name = cache.names()[0]
    sparse = SparseSamples(cache, 0.1, seed=3)
    _, whole = read_views(cache, name, range(4))
    _, thin = read_views(sparse, name, range(4))
    _, again = read_views(sparse, name, [2, 0])
    kept = thin.valid_mask
    assert float(kept.sum() / whole.valid_mask.sum()) == pytest.approx(0.1, abs=0.01)
    assert (whole.valid_mask | ~kept).all()
    assert torch.equal(again.valid_mask, kept[[2, 0]])
    assert torch.equal(thin.points_local[kept], whole.points_local[kept])
    assert not torch.equal(kept[0], kept[1])
