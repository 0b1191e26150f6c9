import math
from dataclasses import replace

import pytest
import torch

from distill3r_core.geometry.cameras import project, unproject
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.teachers import RejectedPixels, make_targets
from distill3r_core.types import RawMaps

K = torch.tensor([[40.0, 0.0, 21.0], [0.0, 40.0, 14.0], [0.0, 0.0, 1.0]])
SIMILARITY = torch.tensor([[0.0, -2.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.5], [0.0, 0.0, 2.0, -1.0]])


def network_maps(views: int = 2, *, seed: int = 0) -> RawMaps:
    """Maps as a network gives them: the global one is a similarity of the local one."""
    generator = torch.Generator().manual_seed(seed)
    local = torch.rand(views, 28, 42, 3, generator=generator) + torch.tensor([0.0, 0.0, 2.0])
    confidence = 1.5 + torch.rand(2, views, 28, 42, generator=generator)
    return RawMaps(
        points_local=list(local),
        confidence_local=list(confidence[0]),
        confidence_global=list(confidence[1]),
        points_global=list(apply_similarity(SIMILARITY.expand(views, 3, 4), local)),
    )


def step() -> RawMaps:
    """A box at z = 1 before a wall at z = 3, seen without noise and without a known K."""
    depth = torch.full((28, 42), 3.0)
    depth[7:21, 11:32] = 1.0
    points, sure = unproject(depth, K), torch.full((28, 42), 2.0)
    return RawMaps([points], [sure], [sure], global_from_local=torch.eye(3, 4)[None])


@pytest.mark.parametrize("size", [(14, 28), (9, 61), (40, 60)])
def test_no_target_hangs_between_foreground_and_background(size):
    z = make_targets(step(), size=size).targets.points_local[..., 2]
    assert ((z == 1) | (z == 3)).all()
    mixed = make_targets(step(), size=size, resample="release").targets.points_local[..., 2]
    assert ((mixed > 1.01) & (mixed < 2.99)).any()


@pytest.mark.parametrize("size", [(14, 28), (9, 61), (40, 60)])
def test_a_target_is_at_most_half_a_raw_pixel_off_its_own_ray(size):
    seen = project(make_targets(step(), size=size).targets.points_local[0], K)
    height, width = size
    u = (torch.arange(width) + 0.5) * 42 / width
    v = (torch.arange(height) + 0.5) * 28 / height
    assert (seen[..., 0] - u).abs().max() <= 0.5 + 1e-4
    assert (seen[..., 1] - v[:, None]).abs().max() <= 0.5 + 1e-4


def test_a_known_k_puts_every_target_on_its_own_ray():
    raw = replace(step(), intrinsics=K[None])
    targets = make_targets(raw, size=(10, 33), boxes=[(3.0, 2.5, 40.0, 27.0)]).targets
    z = targets.points_local[..., 2]
    assert torch.equal(targets.points_local, unproject(z, targets.intrinsics))
    assert ((z - 1).abs().minimum((z - 3).abs()) < 1e-6).all()
    seen = project(targets.points_local[0], K)
    torch.testing.assert_close(seen[4, 5], torch.tensor([3 + 5.5 * 37 / 33, 2.5 + 4.5 * 2.45]))


def test_the_similarity_of_a_network_is_found_and_is_its_global_map():
    raw = network_maps()
    targets = make_targets(raw, size=(28, 42), threshold=0.3).targets
    torch.testing.assert_close(targets.global_from_local[1], SIMILARITY, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        targets.points_global, torch.stack([*raw.points_global]), rtol=0, atol=1e-4
    )


def test_only_the_surest_pixels_decide_the_similarity():
    raw = network_maps()
    doubtful = raw.confidence_global[0] < torch.quantile(raw.confidence_global[0], 0.84)
    raw.points_global[0][doubtful] += 50
    targets = make_targets(raw, size=(28, 42)).targets
    torch.testing.assert_close(targets.global_from_local[0], SIMILARITY, rtol=0, atol=1e-4)


def test_global_points_of_its_own_are_kept_by_request():
    raw = network_maps()
    raw.points_global[1][:, :, 0] += 0.25
    own = make_targets(raw, size=(28, 42), global_map="own").targets
    torch.testing.assert_close(own.points_global, torch.stack([*raw.points_global]))
    assert make_targets(raw, size=(28, 42)).targets.stored_points_global is None


def test_the_threshold_is_on_what_exceeds_one():
    raw = network_maps()
    raw.confidence_local[0][0, :4] = torch.tensor([1.0, 1.25, 1.375, 3.0])
    left = make_targets(raw, size=(28, 42), threshold=0.25)
    assert left.targets.valid_mask[0, 0, :4].tolist() == [False, False, True, True]
    assert left.rejected == RejectedPixels(doubted=2)
    plain = make_targets(raw, size=(28, 42), threshold=0.25, threshold_on="confidence").targets
    assert plain.valid_mask.all()
    assert make_targets(raw, size=(28, 42)).targets.valid_mask.all()


@pytest.mark.parametrize("resample", ["edges", "release"])
def test_numbers_that_float16_cannot_hold_are_left_out_and_counted(resample):
    raw = network_maps()
    raw.points_local[0][0, 0, 1] = math.nan
    raw.points_local[0][0, 1, 2] = math.inf
    raw.confidence_global[0][0, 2] = math.nan
    raw.points_local[0][0, 3, 0] = -65505
    raw.points_local[0][0, 4, 0] = 30000  # the similarity doubles it: 60000 is in range
    raw.points_local[0][0, 5, 0] = 40000  # doubled, it is not
    raw.confidence_global[0][0, 3:6] = 1  # no say in the similarity
    exported = make_targets(raw, size=(28, 42), threshold=0.3, resample=resample)
    targets = exported.targets
    assert targets.valid_mask[0, 0, :6].tolist() == [False, False, False, False, True, False]
    assert exported.rejected == RejectedPixels(not_finite=3, out_of_range=2)
    assert targets.points_local.abs().max() <= 65504
    assert targets.points_global.abs().max() <= 65504


def test_an_infinite_confidence_is_the_largest_one():
    raw = network_maps()
    raw.confidence_local[1][3, 3] = math.inf
    targets = make_targets(raw, size=(28, 42), threshold=0.3).targets
    assert targets.valid_mask[1, 3, 3]
    assert targets.confidence_local[1, 3, 3] == 65504


@pytest.mark.parametrize("resample", ["edges", "release"])
def test_what_the_mask_hides_reaches_no_target(resample):
    raw = network_maps()
    masks = [torch.rand(28, 42) > 0.3 for _ in range(2)]
    for mask, points, confidence in zip(masks, raw.points_local, raw.confidence_local, strict=True):
        points[~mask], confidence[~mask] = math.nan, math.inf
    exported = make_targets(
        replace(raw, valid_mask=masks), size=(14, 30), threshold=0.3, resample=resample
    )
    targets = exported.targets
    assert exported.rejected == RejectedPixels(masked=int((~targets.valid_mask).sum()))
    assert targets.valid_mask.any()
    assert targets.points_local.isfinite().all()
    assert (targets.points_local[~targets.valid_mask] == 0).all()
    assert (targets.confidence_local[~targets.valid_mask] == 1).all()
    torch.testing.assert_close(targets.global_from_local[0], SIMILARITY, rtol=0, atol=1e-4)


def test_a_view_that_nothing_aligns_is_left_out_whole():
    raw = network_maps()
    raw.points_local[1][...] = 1.0
    exported = make_targets(raw, size=(14, 28), threshold=0.3)
    assert exported.rejected == RejectedPixels(unaligned=14 * 28)
    assert exported.targets.valid_mask[0].all()
    assert not exported.targets.valid_mask[1].any()
    assert torch.equal(exported.targets.global_from_local[1], torch.eye(3, 4))


def test_a_box_is_what_the_student_sees_of_a_map():
    raw = network_maps()
    cut = replace(
        raw,
        points_local=[points[4:24, 6:36] for points in raw.points_local],
        confidence_local=[values[4:24, 6:36] for values in raw.confidence_local],
        confidence_global=[values[4:24, 6:36] for values in raw.confidence_global],
        points_global=[points[4:24, 6:36] for points in raw.points_global],
    )
    boxed = make_targets(raw, size=(10, 20), boxes=[(6.0, 4.0, 36.0, 24.0)] * 2).targets
    torch.testing.assert_close(
        boxed.points_local, make_targets(cut, size=(10, 20)).targets.points_local
    )


def test_views_of_different_sizes_become_targets_of_one_size():
    raw = network_maps(1)
    tall = replace(
        raw,
        points_local=[*raw.points_local, torch.rand(42, 28, 3)],
        confidence_local=[*raw.confidence_local, torch.full((42, 28), 2.0)],
        confidence_global=[*raw.confidence_global, torch.full((42, 28), 2.0)],
        points_global=[*raw.points_global, torch.rand(42, 28, 3)],
    )
    assert make_targets(tall, size=(14, 28)).targets.points_local.shape == (2, 14, 28, 3)
