"""A camera nearby sees the same world: checked against the world itself, where that is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from distill3r_core.data.loading.augment import anchor_first, crop_targets, mirror_targets
from distill3r_core.data.loading.nearby_views import draw_motions, fill_unknown, see_from
from distill3r_core.geometry.cameras import project, rays, unproject
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity
from distill3r_core.scenes.paths import arc, pinhole
from distill3r_core.scenes.render import cast, render_depth, render_view
from distill3r_core.scenes.scene import build_scene
from distill3r_core.types import TeacherTargets

SIZE = (60, 80)
STILL = torch.eye(3, 4)[None]
TURN, SHIFT = 15.0, 0.15


def targets_of(depth: torch.Tensor, K: torch.Tensor, mask: torch.Tensor | None = None):
    """Targets of views with depth maps (N, H, W), each its own anchor."""
    views, *size = depth.shape
    valid = torch.ones(views, *size, dtype=torch.bool) if mask is None else mask
    points = torch.where(valid[..., None], unproject(depth, K.expand(views, 3, 3)), 0.0)
    return TeacherTargets(
        points_local=points,
        confidence_local=1 + depth,
        confidence_global=2 + depth,
        valid_mask=valid,
        global_from_local=torch.eye(3, 4).repeat(views, 1, 1),
        intrinsics=K.expand(views, 3, 3).clone(),
    )


def random_view(seed: int = 0) -> tuple[torch.Tensor, TeacherTargets]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8, generator=generator)
    mask = torch.rand(1, *SIZE, generator=generator) > 0.2
    return images, targets_of(1 + torch.rand(1, *SIZE, generator=generator), pinhole(SIZE), mask)


def test_a_camera_that_stays_sees_what_it_saw() -> None:
    images, targets = random_view()
    shown, found = see_from(images, targets, STILL)
    assert torch.equal(shown, images)
    mask = targets.valid_mask
    assert torch.equal(found.valid_mask, mask)
    torch.testing.assert_close(found.points_global, targets.points_global, rtol=0, atol=2e-5)
    for name in ("confidence_local", "confidence_global"):
        assert torch.equal(getattr(found, name)[mask], getattr(targets, name)[mask])


@pytest.mark.parametrize("seed", range(6))
def test_a_camera_nearby_sees_the_room_that_is_there(seed: int) -> None:
    scene, K = build_scene(seed), pinhole(SIZE)
    pose = arc(scene, 2, seed=seed, degrees=20.0)[0]
    image, depth = render_view(scene, pose, K, SIZE)
    targets = targets_of(depth[None], K)
    motions = draw_motions(1, np.random.default_rng(seed), turn=TURN, shift=SHIFT)
    images = (255 * image).round().to(torch.uint8)[None]
    shown, found = see_from(images, targets, torch.from_numpy(motions))

    moved = pose.clone()
    moved[:3] = compose_pose(pose, found.global_from_local[0])
    wanted, true = render_view(scene, moved, K, SIZE)
    mask = found.valid_mask[0]
    apart = ((found.points_local[0, ..., 2] - true).abs() / true)[mask]
    assert float(apart.median()) < 1e-3
    assert float((apart > 0.05).float().mean()) < 0.02  # rims, to a pixel
    colors = (shown[0] / 255 - wanted).abs().amax(0)
    assert float(colors[mask].median()) < 0.02

    visible = seen_from(scene, pose, moved, true, K)
    assert float((mask & ~visible).float().mean()) < 0.02
    assert float((mask & visible).sum() / visible.sum()) > 0.9


def compose_pose(pose: torch.Tensor, old_from_new: torch.Tensor) -> torch.Tensor:
    return torch.cat(
        [pose[:3, :3] @ old_from_new[:, :3], pose[:3, :3] @ old_from_new[:, 3:] + pose[:3, 3:]], -1
    )


def seen_from(scene, pose, moved, depth, K) -> torch.Tensor:
    """Whether what a moved camera's pixels show is in the image of the other, and not hidden."""
    points = apply_similarity(moved[:3], unproject(depth, K))
    local = apply_similarity(invert_similarity(pose[:3]), points)
    pixels = project(local, K)
    inside = (local[..., 2] > 0) & (pixels >= 0).all(-1)
    inside &= (pixels < torch.tensor([SIZE[1], SIZE[0]])).all(-1)
    towards = (points - pose[:3, 3]).flatten(0, 1)  # t = 1 is the point
    first = cast(scene, pose[:3, 3].expand_as(towards), towards)[0].reshape(SIZE)
    return inside & (first > 0.99)


@pytest.mark.parametrize("changed", ["", "cropped", "mirrored", "both"])
def test_points_stay_where_they_are_in_the_common_frame(changed: str) -> None:
    K, scene = pinhole(SIZE), build_scene(2)
    poses = arc(scene, 3, seed=2, degrees=30.0)
    depth = torch.stack([render_depth(scene, pose, K, SIZE) for pose in poses])
    # A frame of its own unit: similarities, not only motions.
    targets = replace(targets_of(depth, K), global_from_local=0.4 * poses[:, :3])
    if changed in ("mirrored", "both"):
        targets = mirror_targets(targets)
    if changed in ("cropped", "both"):
        targets = crop_targets(targets, torch.tensor([0.2, 0.1, 0.7, 0.8]).repeat(3, 1))
    motions = draw_motions(3, np.random.default_rng(1), turn=TURN, shift=SHIFT)
    _, found = see_from(
        torch.zeros(3, 3, *SIZE, dtype=torch.uint8), targets, torch.from_numpy(motions)
    )
    centers = poses[:, :3, 3]
    sign = torch.tensor([-1.0 if changed in ("mirrored", "both") else 1.0, 1.0, 1.0])
    assert float(found.valid_mask.float().mean()) > 0.5
    for view in range(3):
        points = sign * found.points_global[view][found.valid_mask[view]] / 0.4
        towards = points - centers[view]
        first = cast(scene, centers[view].expand_as(towards), towards)[0]
        assert float(((first - 1).abs() > 0.05).float().mean()) < 0.03


def test_the_new_camera_of_the_anchor_becomes_the_frame() -> None:
    K, scene = pinhole(SIZE), build_scene(4)
    poses = arc(scene, 3, seed=4, degrees=30.0)
    targets = anchor_first(
        replace(
            targets_of(torch.stack([render_depth(scene, one, K, SIZE) for one in poses]), K),
            # A teacher's own similarities: the anchor's may have a scale, too.
            global_from_local=torch.linspace(0.5, 2, 3)[:, None, None] * poses[:, :3],
        )
    )
    targets = replace(targets, global_from_local=1.3 * targets.global_from_local)
    motions = torch.from_numpy(draw_motions(3, np.random.default_rng(5), turn=TURN, shift=SHIFT))
    images = torch.zeros(3, 3, *SIZE, dtype=torch.uint8)
    _, stays = see_from(images, targets, motions)
    _, moves = see_from(images, targets, motions, anchored=True)
    eye = torch.eye(3, 4)
    assert torch.equal(moves.global_from_local[0], eye)
    assert not torch.equal(stays.points_global[0], stays.points_local[0])
    back = invert_similarity(stays.global_from_local[:1]).expand(3, 3, 4)
    wanted = apply_similarity(back, stays.points_global)
    wanted = torch.where(stays.valid_mask[..., None], wanted, 0.0)
    torch.testing.assert_close(moves.points_global, wanted, rtol=1e-5, atol=1e-5)


def test_what_stood_behind_something_is_not_seen() -> None:
    # A bar 1 m away before a wall 4 m away, and a camera that moves 0.5 m to the right: in its
    # image the bar lies f / 2 pixels to the left of where it was, the wall f / 8.
    focal, rows, columns = 32.0, 6, 64
    K = torch.tensor([[focal, 0, columns / 2], [0, focal, rows / 2], [0, 0, 1]])
    depth = torch.full((1, rows, columns), 4.0)
    depth[..., 28:36] = 1.0
    motion = STILL.clone()
    motion[0, 0, 3] = 0.5 / 4  # the median depth is 4
    images = torch.zeros(1, 3, rows, columns, dtype=torch.uint8)
    images[..., 28:36] = 200
    shown, found = see_from(images, targets_of(depth, K), motion)
    bar = slice(28 - 16, 36 - 16)
    assert (found.points_local[0, :, bar, 2] - 1.0).abs().max() < 1e-6
    assert (shown[..., bar] == 200).all()
    # The wall of the columns 28 to 36, which the bar hid, is now at 24 to 32; the last
    # four columns were not in the image.
    assert found.valid_mask[0, 3].tolist() == [
        *([True] * 24), *([False] * 8), *([True] * 28), *([False] * 4)
    ]  # fmt: skip
    assert (found.points_local[0, :, 32:60, 2] - 4.0).abs().max() < 1e-6
    assert torch.equal(found.confidence_local[~found.valid_mask], torch.ones(12 * rows))
    assert torch.equal(found.confidence_local[0, :, bar], torch.full((rows, 8), 2.0))


@pytest.mark.parametrize("motion", [(0.0, 0.0, 0.3), (0.2, 0.0, 0.4), (0.1, -0.1, 0.45)])
def test_nothing_is_seen_through_what_a_camera_has_come_near_to(
    motion: tuple[float, float, float],
) -> None:
    rows, columns = 64, 96
    K = pinhole((rows, columns))
    depth = torch.full((1, rows, columns), 4.0)
    box = slice(22, 42), slice(38, 58)
    depth[0, *box] = 0.6
    moved = STILL.clone()
    moved[0, :, 3] = torch.tensor(motion) / 4  # the median depth is 4
    images = torch.zeros(1, 3, rows, columns, dtype=torch.uint8)
    _, found = see_from(images, targets_of(depth, K), moved)
    edges = torch.tensor([[38.0, 22.0], [58.0, 42.0]])
    middle = torch.tensor([columns / 2, rows / 2])
    offset = found.global_from_local[0, :, 3]
    assert float(offset.norm()) <= 0.3 + 1e-6  # half of the way to the box
    torch.testing.assert_close(offset / offset.norm(), moved[0, :, 3] / moved[0, :, 3].norm())
    # Where the corners of the box are now, of a camera of focal length f.
    rim = (edges - middle) / K[0, 0] * 0.6 - offset[:2]
    low, high = (rim / (0.6 - offset[2]) * K[0, 0] + middle).clamp(min=0).unbind(0)
    inside = found.points_local[0, int(low[1]) + 1 : int(high[1]), int(low[0]) + 1 : int(high[0])]
    valid = found.valid_mask[0, int(low[1]) + 1 : int(high[1]), int(low[0]) + 1 : int(high[0])]
    assert valid.float().mean() > 0.3
    assert (inside[valid][:, 2] < 1.0).all()
    assert (found.points_local[..., 2] > 3).any()  # the wall beside it is seen


def test_points_lie_on_the_rays_of_their_pixels_and_nothing_else_is_valid() -> None:
    images, targets = random_view(3)
    motions = torch.from_numpy(draw_motions(1, np.random.default_rng(0), turn=8.0, shift=0.05))
    _, found = see_from(images, targets, motions)
    mask, points = found.valid_mask, found.points_local
    assert mask.any() and not mask.all()
    assert torch.equal(points[~mask], torch.zeros_like(points[~mask]))
    directions = rays(targets.intrinsics, SIZE)
    torch.testing.assert_close((directions * points[..., 2:])[mask], points[mask])
    assert float(found.confidence_global.min()) >= 1


def test_batches_are_their_views_and_no_depth_is_no_failure() -> None:
    parts = [random_view(seed) for seed in range(4)]
    images = torch.cat([image for image, _ in parts])
    whole = targets_of(torch.cat([t.points_local[..., 2] for _, t in parts]), pinhole(SIZE),
                       torch.cat([t.valid_mask for _, t in parts]))  # fmt: skip
    whole.valid_mask[3] = False
    whole.points_local[3] = 0.0
    motions = torch.from_numpy(draw_motions(4, np.random.default_rng(2), turn=9.0, shift=0.1))
    shown, found = see_from(images, whole, motions)
    stacked = TeacherTargets(
        **{
            name: value.reshape(2, 2, *value.shape[1:])
            for name, value in vars(whole).items()
            if isinstance(value, torch.Tensor)
        }
    )
    both, pairs = see_from(
        images.reshape(2, 2, *images.shape[1:]), stacked, motions.reshape(2, 2, 3, 4)
    )
    assert torch.equal(both.flatten(0, 1), shown)
    assert torch.equal(pairs.points_global.flatten(0, 1), found.points_global)
    for view in range(3):
        alone = TeacherTargets(
            **{
                name: value[view : view + 1]
                for name, value in vars(whole).items()
                if isinstance(value, torch.Tensor)
            }
        )
        one, seen = see_from(images[view : view + 1], alone, motions[view : view + 1])
        assert torch.equal(one[0], shown[view])
        torch.testing.assert_close(seen.points_local[0], found.points_local[view])
    assert not found.valid_mask[3].any()
    still, _ = see_from(images, whole, STILL.expand(4, 3, 4))
    assert torch.equal(still, images)
    assert found.global_from_local.isfinite().all()


def test_a_view_without_a_place_stays_without() -> None:
    images, targets = random_view()
    alone = replace(targets, local_only=torch.ones(1, dtype=torch.bool))
    motions = torch.from_numpy(draw_motions(1, np.random.default_rng(0), turn=9.0, shift=0.1))
    _, found = see_from(images, alone, motions)
    assert torch.equal(found.global_from_local, STILL)
    assert not found.global_mask.any()


def test_motions_keep_to_their_bounds() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([draw_motions(8, rng, turn=20.0, shift=0.3) for _ in range(200)])
    degrees = np.degrees(Rotation.from_matrix(drawn[..., :3]).magnitude())
    lengths = np.linalg.norm(drawn[..., 3], axis=-1)
    assert 19 < degrees.max() <= 20 + 1e-4
    assert 0.29 < lengths.max() <= 0.3 + 1e-6
    assert abs(np.mean(drawn[..., 3], axis=0)).max() < 0.02  # in any direction
    still = draw_motions(3, rng, turn=0.0, shift=0.0)
    np.testing.assert_array_equal(still, np.eye(3, 4)[None].repeat(3, 0))


def test_nothing_is_seen_through_it_at_the_widest_shift_of_any_draw() -> None:
    """Random cameras before a close object: its pixels never show the wall behind it."""
    rows, columns = 56, 77
    K = pinhole((rows, columns))
    depth = torch.full((1, rows, columns), 3.0)
    depth[0, 20:40, 30:50] = 0.5
    rng = np.random.default_rng(7)
    targets, images = targets_of(depth, K), torch.zeros(1, 3, rows, columns, dtype=torch.uint8)
    for _ in range(40):
        motion = torch.from_numpy(draw_motions(1, rng, turn=10.0, shift=0.5))
        _, found = see_from(images, targets, motion)
        seen = found.valid_mask[0] & (found.points_local[0, ..., 2] > 0)
        world = found.points_global[0]  # in the view's own frame
        center = found.global_from_local[0, :, 3]
        # The ray to what is seen, where it passes the plane of the object.
        share = (0.5 - center[2]) / (world[..., 2] - center[2])
        passing = center + share[..., None] * (world - center)
        pixels = project(passing, K)
        through = (pixels[..., 0] > 31) & (pixels[..., 0] < 49)
        through &= (pixels[..., 1] > 21) & (pixels[..., 1] < 39)
        behind = seen & (world[..., 2] > 1.0) & through
        assert not behind.any()


def test_a_shift_is_a_share_of_the_median_depth() -> None:
    images, targets = random_view()
    motion = STILL.clone()
    motion[0, :, 3] = torch.tensor([0.1, -0.2, 0.05])
    _, found = see_from(images, targets, motion)
    middle = targets.points_local[..., 2][targets.valid_mask].median()
    torch.testing.assert_close(found.global_from_local[0, :, 3], motion[0, :, 3] * middle)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 5), (16, 24), (33, 50)])
def test_unknown_pixels_are_between_the_known_ones(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(size))
    values = torch.rand(2, 3, *size, generator=generator)
    known = torch.rand(2, 1, *size, generator=generator) > 0.6
    known[0, 0, 0, 0] = known[1, 0, 0, 0] = True
    values = torch.where(known, values, torch.nan)
    filled = fill_unknown(values, known)
    kept = known.expand_as(values)
    assert torch.equal(filled[kept], values[kept])
    low = torch.where(known, values, torch.inf).amin((-2, -1), keepdim=True)
    high = torch.where(known, values, -torch.inf).amax((-2, -1), keepdim=True)
    assert ((filled >= low - 1e-6) & (filled <= high + 1e-6)).all()
    nothing = fill_unknown(values, torch.zeros_like(known))
    assert torch.equal(nothing, torch.zeros_like(values))
