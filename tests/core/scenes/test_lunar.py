"""Lunar terrain: the law of craters, exact depth, shadows, the same ground from every view."""

import math

import pytest
import torch

from distill3r_core.geometry.cameras import project, unproject
from distill3r_core.scenes.lunar_render import (
    FARTHEST,
    VIEW_KINDS,
    flight,
    lunar_camera,
    march,
    render_lunar,
    render_lunar_view,
)
from distill3r_core.scenes.lunar_terrain import (
    DENSITY,
    LunarTerrain,
    build_terrain,
    crater_profile,
    crater_sizes,
)

SIZE = (24, 32)


@pytest.fixture(scope="module")
def terrain() -> LunarTerrain:
    return build_terrain(5, cells=128)


def flat(*, sun: float = 30.0, height: float = 0.0) -> LunarTerrain:
    up = math.radians(sun)
    direction = torch.tensor([math.cos(up), 0.0, math.sin(up)])
    return LunarTerrain(torch.full((32, 32), height), torch.ones(32, 32), 0.5, direction)


def test_numbers_of_craters_fall_with_the_square_of_their_size():
    # As many craters as the density asks for, at evenly spread draws: no chance is left.
    largest = 100.0
    count = round(DENSITY * 1e5 * (1 - largest**-2))
    sizes = crater_sizes(1e5, 1.0, largest, (torch.arange(count) + 0.5) / count)
    assert len(sizes) == count
    for diameter in (1.0, 2.0, 4.0, 16.0):
        larger = int((sizes > diameter).sum())
        wanted = DENSITY * 1e5 * (diameter**-2 - largest**-2)
        assert larger == pytest.approx(wanted, abs=1)


def test_a_fresh_crater_is_a_fifth_as_deep_as_wide_and_has_a_rim():
    distance = torch.linspace(0, 40, 4001)
    profile = crater_profile(distance, 20.0, freshness=1.0)
    assert float(profile[0]) == pytest.approx(-0.2 * 20, abs=0.05)
    assert float(distance[profile.argmax()]) == pytest.approx(10.0, abs=0.02)
    assert float(profile.max()) == pytest.approx(0.04 * 20, abs=0.05)
    assert (profile[distance > 30] == 0).all()
    assert (profile.diff().abs() < 0.02).all()  # without a step


def test_the_ground_repeats_itself_without_a_seam(terrain):
    places = terrain.side * torch.rand(50, 2)
    shifted = places + terrain.side * torch.tensor([1.0, -2.0])
    torch.testing.assert_close(
        terrain.height(shifted), terrain.height(places), rtol=1e-3, atol=1e-3
    )


def test_the_same_seed_gives_the_same_views_whatever_their_number():
    few, many = render_lunar(3, 2, SIZE), render_lunar(3, 3, SIZE)
    assert torch.equal(few.images[0], many.images[0])
    assert torch.equal(few.depth[0], many.depth[0])
    assert not torch.equal(render_lunar(4, 1, SIZE).images, few.images[:1])


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_every_point_lies_on_the_ground_and_is_seen_first(terrain, kind):
    camera = lunar_camera(SIZE)
    for pose in flight(terrain, 2, kind=kind, seed=1):
        _, depth = render_lunar_view(terrain, pose, camera, SIZE)
        seen = depth > 0
        points = unproject(depth[None], camera[None])[0] @ pose[:3, :3].T + pose[:3, 3]
        ground = terrain.height(points[..., :2])
        assert seen.float().mean() > 0.9
        assert depth.max() <= FARTHEST
        assert ((points[..., 2] - ground)[seen].abs() < 2e-3).all()
        # Nothing of the ground is nearer on the same ray.
        for share in torch.linspace(0.05, 0.97, 20):
            nearer = pose[:3, 3] + share * (points - pose[:3, 3])
            above = nearer[..., 2] - terrain.height(nearer[..., :2])
            assert (above[seen] > -2e-3).all()


def test_two_views_see_the_same_ground():
    scene = render_lunar(6, 5, (48, 64), kind="nadir")
    points = unproject(scene.depth[:1], scene.intrinsics[:1])[0].flatten(0, 1)
    pose = scene.world_from_cam[1].inverse() @ scene.world_from_cam[0]
    moved = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = project(moved[None], scene.intrinsics[:1])[0]
    column, row = pixels.floor().long().unbind(-1)
    inside = (row >= 0) & (row < 48) & (column >= 0) & (column < 64)
    assert inside.float().mean() > 0.3
    found = scene.depth[1][row[inside], column[inside]]
    difference = (found - moved[inside, 2]).abs() / moved[inside, 2]
    assert difference.median() < 0.01


def test_flat_ground_is_met_at_its_height():
    ground = flat(height=2.0)
    down = torch.tensor([[0.0, 0.0, -1.0], [0.6, 0.0, -0.8], [0.0, 1.0, 0.1]])
    origins = torch.tensor([3.0, 4.0, 12.0]).expand(3, 3)
    depth, hit = march(ground, origins, down, farthest=60.0)
    assert hit.tolist() == [True, True, False]
    torch.testing.assert_close(depth[:2], torch.tensor([10.0, 12.5]), rtol=1e-4, atol=1e-4)


def test_a_wall_throws_a_shadow_as_long_as_the_sun_is_low():
    heights = torch.zeros(64, 64)
    heights[20] = 2.0  # along y at x = 5 m; the sun comes from beyond it
    up = math.radians(20.0)
    sun = torch.tensor([math.cos(up), 0.0, math.sin(up)])
    ground = LunarTerrain(heights, torch.ones(64, 64), 0.25, sun)
    length = 2.0 / math.tan(up)
    for behind, lit in ((0.3 * length, False), (0.9 * length, False), (1.1 * length, True)):
        assert bool(ground.is_lit(torch.tensor([5.0 - behind, 8.0, 1e-3]))) is lit
    above = torch.tensor([5.0 - 0.5 * length, 8.0, 1.0 + 0.2])
    assert bool(ground.is_lit(above))  # half way, the shadow is half as high as the wall


def test_shadows_are_black_and_the_sky_is_too():
    scene = render_lunar(2, 1, (48, 64), kind="pitch")
    assert scene.images.min() < 0.05
    assert scene.images.max() > 0.5
    pose = torch.eye(4)
    pose[:3, 1], pose[:3, 2] = torch.tensor([0, 0, -1.0]), torch.tensor([1.0, 0, 0])
    pose[:3, 0], pose[2, 3] = torch.tensor([0, -1.0, 0]), 5.0
    image, depth = render_lunar_view(flat(), pose, lunar_camera((16, 16)), (16, 16))
    assert (depth[:8] == 0).all()
    assert (image[:, :8] == 0).all()
    assert (depth[-1] > 0).all()
