"""Augmentation must leave targets true: the same world, seen by other views, in a mirror."""

import numpy as np
import pytest
import torch

from distill3r_core.data.loading import augment
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity
from distill3r_core.types import TeacherTargets

VIEWS, HEIGHT, WIDTH = 5, 4, 6


def random_targets(*, stored: bool = False, seed: int = 0) -> TeacherTargets:
    """Float64 targets whose views have rotations, scales and offsets of their own."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rotations = torch.linalg.qr(normal(VIEWS, 3, 3)).Q
    rotations = rotations * torch.linalg.det(rotations)[:, None, None]
    scales = normal(VIEWS, 1, 1).exp()
    poses = torch.cat([scales * rotations, normal(VIEWS, 3, 1)], dim=-1)
    mask = torch.rand(VIEWS, HEIGHT, WIDTH, generator=generator) > 0.3
    points = torch.where(mask[..., None], normal(VIEWS, HEIGHT, WIDTH, 3), 0.0)
    own_global = torch.where(mask[..., None], normal(VIEWS, HEIGHT, WIDTH, 3), 0.0)
    return TeacherTargets(
        points_local=points,
        confidence_local=1 + normal(VIEWS, HEIGHT, WIDTH).exp(),
        confidence_global=1 + normal(VIEWS, HEIGHT, WIDTH).exp(),
        valid_mask=mask,
        global_from_local=poses,
        stored_points_global=own_global if stored else None,
        intrinsics=torch.tensor([[7.0, 0, 2.5], [0, 8, 2], [0, 0, 1]]).double().repeat(VIEWS, 1, 1),
    )


def pick(targets: TeacherTargets, views: list[int]) -> TeacherTargets:
    stored = targets.stored_points_global
    return TeacherTargets(
        points_local=targets.points_local[views],
        confidence_local=targets.confidence_local[views],
        confidence_global=targets.confidence_global[views],
        valid_mask=targets.valid_mask[views],
        global_from_local=targets.global_from_local[views],
        stored_points_global=None if stored is None else stored[views],
        intrinsics=None if targets.intrinsics is None else targets.intrinsics[views],
    )


@pytest.mark.parametrize("stored", [False, True])
def test_a_new_anchor_sees_the_same_points_from_its_own_frame(stored: bool) -> None:
    targets, views = random_targets(stored=stored), [3, 0, 4]
    moved = augment.anchor_first(pick(targets, views))
    back = invert_similarity(targets.global_from_local[3]).expand(3, 3, 4)
    expected = apply_similarity(back, targets.points_global[views])
    expected = torch.where(targets.valid_mask[views][..., None], expected, 0.0)
    torch.testing.assert_close(moved.points_global, expected)
    torch.testing.assert_close(
        moved.global_from_local[0], torch.eye(3, 4, dtype=torch.float64), rtol=0, atol=0
    )
    if not stored:  # there the anchor's global map is its local one
        torch.testing.assert_close(moved.points_global[0], targets.points_local[3])
    torch.testing.assert_close(moved.confidence_global, targets.confidence_global[views])


def test_changing_the_anchor_and_back_changes_nothing() -> None:
    first = augment.anchor_first(random_targets())
    away = augment.anchor_first(pick(first, [2, 0, 1, 3, 4]))
    home = augment.anchor_first(pick(away, [1, 2, 0, 3, 4]))
    torch.testing.assert_close(home.points_global, first.points_global)


@pytest.mark.parametrize("stored", [False, True])
def test_a_mirrored_sample_is_the_mirrored_world(stored: bool) -> None:
    targets = random_targets(stored=stored)
    mirrored = augment.mirror_targets(targets)
    sign = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(mirrored.points_global.flip(-2) * sign, targets.points_global)
    torch.testing.assert_close(mirrored.points_local.flip(-2) * sign, targets.points_local)
    rotation_and_scale = mirrored.global_from_local[..., :3]
    assert (torch.linalg.det(rotation_and_scale) > 0).all()  # a similarity, no reflection
    assert mirrored.intrinsics is not None
    assert mirrored.intrinsics[0, 0, 2] == WIDTH - 2.5
    twice = augment.mirror_targets(mirrored)
    torch.testing.assert_close(twice.global_from_local, targets.global_from_local)
    images = torch.arange(24).reshape(1, 1, 4, 6)
    assert (augment.mirror_images(images)[..., 0] == images[..., -1]).all()


def test_views_are_distinct_and_every_one_can_be_the_anchor() -> None:
    rng = np.random.default_rng(0)
    drawn = [augment.choose_views(6, 4, rng=rng) for _ in range(200)]
    assert all(len(set(views)) == 4 for views in drawn)
    assert {views[0] for views in drawn} == set(range(6))
    assert augment.choose_views(6, 4, rng=None) == (0, 1, 2, 3)
    assert augment.choose_views(3, 8, rng=None) == (0, 1, 2)
    assert sorted(augment.choose_views(5, None, rng=rng)) == [0, 1, 2, 3, 4]


def test_colors_stay_in_range_and_neutral_factors_change_nothing() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    neutral = torch.ones(2, augment.COLOR_FACTORS)
    torch.testing.assert_close(augment.unit_images(images, neutral), augment.unit_images(images))
    drawn = augment.draw_colors(2, np.random.default_rng(1))
    changed = augment.unit_images(images, torch.from_numpy(drawn))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - augment.unit_images(images)).abs().max() > 0.01
