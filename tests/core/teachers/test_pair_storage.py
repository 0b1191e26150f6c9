"""Pairs that do not fit into memory are kept in half precision, then at a coarser grid."""

import logging
import math

import pytest
import torch
from official_folders import write_folder
from test_pair_alignment import script  # noqa: F401 - a fixture

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.geometry.registration import rotation_angle
from distill3r_core.teachers import build_teacher
from distill3r_core.teachers.pairwise import storage as pair_storage
from distill3r_core.teachers.pairwise.graph import pairs_of
from distill3r_core.teachers.pairwise.optimization import align
from distill3r_core.teachers.pairwise.predictions import collect
from distill3r_core.teachers.pairwise.storage import PairStorage, ViewDetails, plan_storage
from distill3r_core.teachers.pairwise.tree import place_by_tree
from distill3r_core.types import ImagePlacement, PreparedView

SIZE = (36, 48)
VIEWS = 4


@pytest.mark.parametrize("stride", [2, 4])
def test_exact_pairs_on_a_coarser_grid_give_exact_views_of_full_size(script, stride):  # noqa: F811
    true = script.room_views(5, VIEWS, SIZE, degrees=45.0)
    edges = pairs_of(VIEWS, "complete")
    pairs = script.predict_pairs(true, edges, noise=0.0, seed=5)
    storage, details, maps = PairStorage(torch.float32, stride), ViewDetails([SIZE] * VIEWS), []
    for edge, (i, j) in enumerate(edges):
        points = [side[edge].reshape(*SIZE, 3) for side in (pairs.points_i, pairs.points_j)]
        sure = [side[edge].reshape(SIZE) for side in (pairs.confidence_i, pairs.confidence_j)]
        details.add_own(i, points[0], sure[0])
        details.add(j, sure[1])
        maps.append(tuple(storage.kept(part) for part in (*points, *sure)))
    kept = collect(edges, [storage.size(SIZE)] * VIEWS, maps)
    assert kept.points_i.shape[1] == math.prod(SIZE) // stride**2
    start = place_by_tree(kept, center=storage.center)
    solved = align(kept, start, steps=60, center=storage.center)
    found, confidence = details.restore(solved, storage)
    torch.testing.assert_close(confidence, pairs.view_confidence().float())
    torch.testing.assert_close(found.focals, true.intrinsics[:, 0, 0].float(), rtol=0.01, atol=0)
    ratio = found.depth / true.depth.reshape(VIEWS, -1).float()
    assert ((ratio / ratio.median() - 1).abs() < 0.01).float().mean() > 0.99
    for view in range(1, VIEWS):
        relative = [
            torch.linalg.inv(poses[0].double()) @ poses[view].double()
            for poses in (found.world_from_cam, true.world_from_cam)
        ]
        assert rotation_angle(*relative) < 0.3


def test_the_first_way_that_fits_is_taken(monkeypatch, caplog):
    sizes = [(384, 512)] * 20

    def plan(gigabytes: float) -> PairStorage:
        monkeypatch.setattr(pair_storage, "available_memory", lambda: int(gigabytes * 1e9))
        return plan_storage(380, sizes)

    found = [plan(100.0)]
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        found += [plan(gigabytes) for gigabytes in (6.0, 2.0, 0.6)]
    assert found == [
        PairStorage(),
        PairStorage(torch.float16),
        PairStorage(torch.float16, 2),
        PairStorage(torch.float16, 4),
    ]
    assert "half precision to fit" in caplog.messages[0]
    assert "at 1/2 of their size" in caplog.messages[1]
    with pytest.raises(OutOfMemoryError, match=r"380 pairs of 20 views take .* GB"):
        plan(0.1)
    # What the network takes beside them counts too.
    monkeypatch.setattr(pair_storage, "available_memory", lambda: int(6.0e9))
    assert plan_storage(380, sizes, beside=int(3.2e9)) == PairStorage(torch.float16, 2)
    sizes = [(382, 510)] * 20  # not a multiple of 4
    with pytest.raises(OutOfMemoryError):
        plan(0.6)


def test_a_teacher_with_little_memory_still_gives_maps_of_full_size(
    golden_dir, tmp_path, monkeypatch, caplog
):
    folder = write_folder(tmp_path / "mast3r", golden_dir, "mast3r")
    teacher = build_teacher("mast3r", folder, device=torch.device("cpu"), align_steps=2)
    generator = torch.Generator().manual_seed(0)
    placement = ImagePlacement((0.0, 0.0, 48.0, 32.0), (32, 48))
    views = [
        PreparedView(torch.rand(3, 32, 48, generator=generator), placement, index=index)
        for index in range(3)
    ]
    sizes = [(32, 48)] * 3
    needed = pair_storage._needed(6, sizes, PairStorage(torch.float16, 2))
    limit = int((needed + teacher._beside(sizes)) / pair_storage._USABLE) + 1000
    monkeypatch.setattr(pair_storage, "available_memory", lambda: limit)
    with caplog.at_level(logging.WARNING):
        maps = teacher.predict(views)
    assert any("at 1/2 of their size" in message for message in caplog.messages)
    assert [tuple(points.shape) for points in maps.points_local] == [(32, 48, 3)] * 3
    assert maps.alignment is not None
    assert maps.alignment.residual > 0
    assert all(points.isfinite().all() for points in maps.points_local)
