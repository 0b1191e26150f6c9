"""Augmentation must leave targets true: the same world, seen by other views, in a mirror."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill3r_core.data.loading import augment
from distill3r_core.geometry.cameras import pixel_grid, project, unproject
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity
from distill3r_core.scenes.paths import arc, pinhole
from distill3r_core.scenes.render import render_depth
from distill3r_core.scenes.scene import build_scene
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


@pytest.mark.parametrize("upright", [True, False])
def test_mirrored_points_are_seen_at_the_mirrored_pixels(upright: bool) -> None:
    targets = random_targets()
    K = torch.tensor([[7.0, 0, 2.5], [0, 8, 2], [0, 0, 1]]).double()
    if not upright:  # a transposed map
        K = torch.tensor([[0, 7.0, 2.5], [8, 0, 2], [0, 0, 1]]).double()
    intrinsics = K.repeat(VIEWS, 1, 1)
    points = unproject(1 + targets.points_local[..., 2].abs(), intrinsics)
    whole = torch.ones_like(targets.valid_mask)
    mirrored = augment.mirror_targets(
        replace(targets, points_local=points, intrinsics=intrinsics, valid_mask=whole)
    )
    assert mirrored.intrinsics is not None
    seen = project(mirrored.points_local, mirrored.intrinsics)
    torch.testing.assert_close(seen, pixel_grid((HEIGHT, WIDTH), like=seen).expand_as(seen))


def test_views_are_distinct_and_every_one_can_be_the_anchor() -> None:
    rng = np.random.default_rng(0)
    drawn = [augment.choose_views(6, 4, rng=rng) for _ in range(200)]
    assert all(len(set(views)) == 4 for views in drawn)
    assert {views[0] for views in drawn} == set(range(6))
    near = [augment.choose_views(6, 3, rng=rng, span=4) for _ in range(200)]
    assert {max(views) - min(views) for views in near} == {2, 3}
    assert {views[0] for views in near} == set(range(6))
    seeds = (np.random.default_rng(1), np.random.default_rng(1))
    whole, wide = (
        augment.choose_views(6, 4, rng=r, span=s) for r, s in zip(seeds, (None, 6), strict=True)
    )
    assert whole == wide
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


WHOLE = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(VIEWS, 1)


def test_the_whole_of_an_image_is_the_image() -> None:
    targets = random_targets(stored=True)
    images = torch.randint(0, 256, (VIEWS, 3, HEIGHT, WIDTH), dtype=torch.uint8)
    assert torch.equal(augment.crop_images(images, WHOLE), images)
    assert targets.intrinsics is not None
    targets = replace(
        targets, points_local=unproject(targets.points_local[..., 2], targets.intrinsics)
    )
    shown = augment.crop_targets(targets, WHOLE)
    for name, values in vars(shown).items():
        if isinstance(values, torch.Tensor):
            torch.testing.assert_close(values, getattr(targets, name), msg=name)


@pytest.mark.parametrize("stored", [False, True])
def test_a_part_of_whole_pixels_is_those_pixels_repeated(stored: bool) -> None:
    targets = replace(random_targets(stored=stored), intrinsics=None)
    # Columns 3 to 5 of 6, twice as wide; rows 1 and 2 of 4, twice as high.
    crops = torch.tensor([0.5, 0.25, 0.5, 0.5], dtype=torch.float64).repeat(VIEWS, 1)
    shown = augment.crop_targets(targets, crops)
    # Depth is at random: no four neighbors are one surface.
    for name in ("points_local", "points_global", "valid_mask", "confidence_local"):
        part = getattr(targets, name)[:, 1:3, 3:6]
        repeated = part.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        assert torch.equal(getattr(shown, name), repeated), name


def test_points_of_a_surface_are_between_those_of_its_pixels() -> None:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    plane = torch.stack([columns, rows, 100 + columns + rows], dim=-1).double()
    plane[:, 4:] += torch.tensor([0.0, 0, 50])  # a step between the columns 3 and 4
    targets = replace(
        random_targets(),
        points_local=plane.expand(VIEWS, -1, -1, -1).clone(),
        valid_mask=torch.ones(VIEWS, HEIGHT, WIDTH, dtype=torch.bool),
        intrinsics=None,
    )
    crops = torch.tensor([0.25, 0.25, 0.5, 0.5], dtype=torch.float64).repeat(VIEWS, 1)
    shown = augment.crop_targets(targets, crops).points_local[0]
    # Middles of the columns are 1.25, 1.75, ..., 3.75, of the rows 0.75, 1.25, 1.75 and 2.25.
    columns = torch.tensor([1.25, 1.75, 2.25, 2.75, 3, 4], dtype=torch.float64)
    depth = torch.tensor([102.5, 103, 103.5, 104, 104, 155], dtype=torch.float64)
    torch.testing.assert_close(shown[1, :, 0], columns)
    torch.testing.assert_close(shown[1, :, 2], depth)


def test_a_part_of_an_image_is_bilinear() -> None:
    crops = torch.tensor([[0.5, 0.25, 0.5, 0.5]])
    steps = torch.arange(0, 240, 10, dtype=torch.uint8).reshape(1, 1, HEIGHT, WIDTH)
    enlarged = augment.crop_images(steps.expand(1, 3, -1, -1), crops)[0, 0]
    # The image rises by 10 a column and by 60 a row; half of that between halves of pixels. Beyond
    # the last column's middle there is nothing to rise to.
    assert enlarged[1].tolist() == [102, 108, 112, 118, 122, 125]
    assert enlarged[:, 1].float().diff().tolist() == [30.0, 30.0, 30.0]


def test_an_enlarged_view_is_what_a_longer_lens_sees() -> None:
    size, scene = (48, 64), build_scene(3)
    K = pinhole(size, degrees=62.0)
    pose = arc(scene, 2, seed=3, degrees=20.0)[:1]
    depth = render_depth(scene, pose[0], K, size)[None]
    targets = TeacherTargets(
        points_local=unproject(depth, K[None]),
        confidence_local=torch.ones(1, *size),
        confidence_global=torch.ones(1, *size),
        valid_mask=torch.ones(1, *size, dtype=torch.bool),
        global_from_local=torch.eye(3, 4)[None],
        intrinsics=K[None],
    )
    crops = torch.tensor([[0.2, 0.35, 0.5, 0.4]])
    shown = augment.crop_targets(targets, crops)
    assert shown.intrinsics is not None
    longer = shown.intrinsics[0]
    torch.testing.assert_close(longer[0, 0], K[0, 0] / 0.5)
    torch.testing.assert_close(longer[1, 1], K[1, 1] / 0.4)
    # The middle of the image was the principal point; it lies where the part puts it.
    torch.testing.assert_close(longer[0, 2], torch.tensor((0.5 - 0.2) / 0.5 * 64))
    torch.testing.assert_close(longer[1, 2], torch.tensor((0.5 - 0.35) / 0.4 * 48))
    rendered = render_depth(scene, pose[0], longer, size)
    apart = (shown.points_local[0, ..., 2] - rendered).abs() / rendered
    assert float(apart.median()) < 0.01
    pixels = project(shown.points_local, longer[None])[0]
    middles = torch.stack(
        torch.meshgrid(torch.arange(64) + 0.5, torch.arange(48) + 0.5, indexing="xy"), dim=-1
    )
    torch.testing.assert_close(pixels, middles, atol=1e-3, rtol=0)


def test_parts_keep_to_their_bounds() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([augment.draw_crops(8, rng, zoom=2.0, aspect=1.3) for _ in range(200)])
    corner, sides = drawn[:, :2], drawn[:, 2:]
    assert (corner >= 0).all() and (corner + sides <= 1 + 1e-6).all()
    assert sides.min() >= 0.5 / 1.3**0.5 - 1e-6 and sides.max() <= 1
    ratio = sides[:, 0] / sides[:, 1]
    assert 1 / 1.3 - 1e-6 <= ratio.min() < 0.85 and 1.15 < ratio.max() <= 1.3 + 1e-6
    square = augment.draw_crops(8, rng, zoom=2.0, aspect=1.0)
    np.testing.assert_allclose(square[:, 2], square[:, 3])
    assert (augment.draw_crops(8, rng, zoom=1.0, aspect=1.0) == [0, 0, 1, 1]).all()
