"""The ray caster against cases worked by hand, and against the laws of geometry."""

import math

import pytest
import torch

from distill3r_core.geometry.cameras import invert_rigid, unproject
from distill3r_core.scenes import (
    arc,
    build_scene,
    look_at,
    pinhole,
    render_depth,
    render_scene,
    render_view,
)
from distill3r_core.scenes.render import cast
from distill3r_core.scenes.scene import Body, ProceduralScene
from distill3r_core.scenes.surfaces import Box, Relief, Sphere, Wall
from distill3r_core.scenes.textures import PATTERNS, Light, Texture

SIZE = (28, 42)
UPRIGHT = torch.eye(3)


def _plain(color: float = 1.0, pattern: str = "clouds") -> Texture:
    return Texture(pattern, torch.full((3, 3), color), UPRIGHT, torch.zeros(3), torch.zeros(3, 3))


def _scene(*surfaces: object) -> ProceduralScene:
    bodies = tuple(Body(surface, _plain()) for surface in surfaces)  # type: ignore[arg-type]  # a Protocol
    return ProceduralScene(
        bodies, (Light(torch.tensor([0.0, 0, 9]), torch.ones(3)),), (9.0, 9.0, 9.0)
    )


def _looking_along_x(x: float) -> torch.Tensor:
    return look_at(torch.tensor([[x, 0.0, 0.0]]), torch.tensor([[x + 1, 0.0, 0.0]]))[0]


def _rays(*pairs: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([o for o, _ in pairs]), torch.tensor([d for _, d in pairs])


def test_a_sphere_is_hit_where_its_equation_says():
    sphere = Sphere(torch.tensor([5.0, 0, 0]), 1.0)
    t = sphere.intersect(
        *_rays(
            ((0.0, 0, 0), (1.0, 0, 0)),
            ((0.0, 0, 0), (2.0, 0, 0)),  # t counts directions, not meters
            ((0.0, 0.6, 0), (1.0, 0, 0)),  # 5 - sqrt(1 - 0.36)
            ((0.0, 1.1, 0), (1.0, 0, 0)),
            ((9.0, 0.0, 0), (1.0, 0, 0)),
        )
    )
    torch.testing.assert_close(t, torch.tensor([4.0, 2.0, 4.2, math.inf, math.inf]))


def test_a_turned_box_is_hit_on_its_edge():
    turn = math.sqrt(0.5)
    axes = torch.tensor([[turn, turn, 0], [-turn, turn, 0], [0, 0, 1]])
    box = Box(torch.tensor([4.0, 0, 0]), torch.tensor([1.0, 1, 1]), axes)
    t = box.intersect(
        *_rays(
            ((0.0, 1e-3, 0), (1.0, 0, 0)),
            ((0.0, 0, 2), (0.0, 0, -1)),
            ((4.0, 0, 2), (0.0, 0, -1)),
            ((0.0, 1.5, 0), (1.0, 0, 0)),
        )
    )
    expected = torch.tensor([4 - math.sqrt(2) + 1e-3, math.inf, 1.0, math.inf])
    torch.testing.assert_close(t, expected, rtol=1e-6, atol=1e-6)


def test_a_wall_is_seen_from_its_front_only():
    wall = Wall(torch.tensor([-1.0, 0, 0]), -3.0)
    t = wall.intersect(
        *_rays(
            ((0.0, 0, 0), (1.0, 1, 0)),
            ((0.0, 0, 0), (-1.0, 0, 0)),
            ((4.0, 0, 0), (-1.0, 0, 0)),
            ((0.0, 0, 0), (0.0, 1, 0)),
        )
    )
    torch.testing.assert_close(t, torch.tensor([3.0, math.inf, math.inf, math.inf]))


def test_a_relief_is_hit_on_its_waves():
    relief = Relief(0.5, torch.tensor([0.2]), torch.tensor([[2.0, 0.0]]), torch.tensor([0.0]))
    # Straight down on a crest, on a slope and in a hollow; upward; and level, above every crest.
    x = torch.tensor([math.pi / 4, 0.3, 3 * math.pi / 4])
    origins = torch.stack([x, torch.zeros(3), torch.full((3,), 2.0)], -1)
    t = relief.intersect(origins, torch.tensor([0.0, 0, -1]).expand(3, 3))
    torch.testing.assert_close(t, 1.5 - 0.2 * torch.sin(2 * x))
    away = relief.intersect(*_rays(((0.0, 0, 2), (0.0, 0, 1)), ((0.0, 0, 2), (1.0, 0, 0))))
    assert away.isinf().all()


def test_a_slanted_ray_ends_on_the_first_slope_of_a_relief():
    relief = Relief(0.0, torch.tensor([0.3]), torch.tensor([[1.5, 0.4]]), torch.tensor([0.7]))
    angle = torch.linspace(0.05, 1.2, 50)
    directions = torch.stack([angle.cos(), 0.3 * torch.ones(50), -angle.sin()], -1)
    origins = torch.tensor([0.0, 0, 1.2]).expand(50, 3)
    t = relief.intersect(origins, directions)
    points = origins + t[:, None] * directions
    torch.testing.assert_close(points[:, 2], relief.height(points), rtol=0, atol=1e-4)
    part = torch.linspace(0, 0.99, 200)
    before = origins[:, None] + part[:, None] * (points - origins)[:, None]
    assert (before[..., 2] > relief.height(before)).all()


def test_depth_is_z_and_not_the_length_of_the_ray():
    scene = _scene(Wall(torch.tensor([-1.0, 0, 0]), -3.0))
    depth = render_depth(scene, _looking_along_x(0.5), pinhole(SIZE), SIZE)
    torch.testing.assert_close(depth, torch.full(SIZE, 2.5))


def test_intrinsics_have_their_centers_at_half():
    size = (21, 21)
    scene = _scene(Sphere(torch.tensor([5.0, 0, 0]), 1.0))
    depth = render_depth(scene, _looking_along_x(0.0), pinhole(size), size)
    assert float(depth[10, 10]) == pytest.approx(4.0, abs=1e-6)
    torch.testing.assert_close(depth, depth.flip(0))
    torch.testing.assert_close(depth, depth.flip(1))


def test_cameras_are_upright_and_turn_towards_their_target():
    pose = look_at(torch.tensor([[1.0, 2.0, 1.5]]), torch.tensor([[0.0, 0.0, 0.5]]))[0]
    rotation = pose[:3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3), rtol=0, atol=1e-6)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-5)
    assert float(rotation[2, 0]) == pytest.approx(0.0, abs=1e-6)  # x of the picture is level
    assert float(rotation[2, 1]) < 0  # y of the picture points down
    ahead = invert_rigid(pose) @ torch.tensor([0.0, 0.0, 0.5, 1.0])
    torch.testing.assert_close(ahead[:2], torch.zeros(2), rtol=0, atol=1e-6)


def test_an_arc_spans_the_angle_asked_for():
    poses = arc(build_scene(3), 7, seed=3, degrees=40.0)
    bearing = torch.atan2(poses[:, 1, 3], poses[:, 0, 3])
    swept = (bearing[-1] - bearing[0]) % math.tau
    assert math.degrees(float(swept)) == pytest.approx(40.0, abs=1e-3)


def test_cameras_stay_in_the_room_and_out_of_things(drill):
    for seed in range(drill(500)):
        scene = build_scene(seed)
        centers = arc(scene, 5, seed=seed)[:, :3, 3]
        room = torch.tensor(scene.size)
        assert bool((centers[:, :2].abs() < room[:2] / 2 - 0.2).all())
        assert bool(((centers[:, 2] > 0.5) & (centers[:, 2] < room[2] - 0.3)).all())
        for body in scene.bodies:
            if isinstance(body.surface, Sphere | Box):
                reach = (
                    body.surface.radius
                    if isinstance(body.surface, Sphere)
                    else (float(body.surface.half[:2].norm()))
                )
                apart = (centers - body.surface.center)[:, :2].norm(dim=-1)
                assert float(apart.min()) > reach + 0.1


@pytest.mark.parametrize("seed", range(6))
def test_every_ray_of_a_room_ends_on_a_surface_it_meets(seed):
    scene = build_scene(seed)
    rendered = render_scene(seed, 3, SIZE)
    assert rendered.depth.isfinite().all()
    assert rendered.depth.min() > 0.3  # no camera stands in a thing or a wall
    local = unproject(rendered.depth, rendered.intrinsics)
    rotation, offset = rendered.world_from_cam[:, :3, :3], rendered.world_from_cam[:, :3, 3]
    world = (local.flatten(1, 2) @ rotation.mT + offset[:, None]).flatten(0, 1)
    off = torch.stack([_off_surface(body.surface, world) for body in scene.bodies]).amin(0)
    assert float(off.max()) < 2e-4


def _off_surface(surface: object, points: torch.Tensor) -> torch.Tensor:
    """Meters between points and a surface, by its equation."""
    match surface:
        case Wall(normal, offset):
            return (points @ normal - offset).abs()
        case Sphere(center, radius):
            return ((points - center).norm(dim=-1) - radius).abs()
        case Box(center, half, axes):
            local = (points - center) @ axes.mT
            return (local.abs() - half).amax(-1).abs()
        case Relief():
            return (points[:, 2] - surface.height(points)).abs()
        case _:
            raise AssertionError(surface)


@pytest.mark.parametrize("seed", [0, 3])
def test_two_views_agree_on_the_points_that_both_see(seed):
    # Point of view 0, carried to view 1: what view 1 sees there is never farther away.
    scene = build_scene(seed)
    poses = arc(scene, 2, seed=seed, degrees=8.0)
    intrinsics = pinhole(SIZE)
    depth = render_depth(scene, poses[0], intrinsics, SIZE)
    local = unproject(depth, intrinsics).reshape(-1, 3)
    world = local @ poses[0, :3, :3].mT + poses[0, :3, 3]
    towards = world - poses[1, :3, 3]
    hit, _ = cast(scene, poses[1, :3, 3].expand_as(towards), towards)  # t = 1 is the point
    distance = towards.norm(dim=-1)
    assert float(((hit - 1) * distance).max()) < 2e-3
    agreed = ((hit - 1) * distance).abs() < 2e-3
    assert 0.8 < float(agreed.float().mean()) < 1  # and some are hidden from view 1


def test_a_seed_fixes_a_scene():
    first, again, other = (render_scene(seed, 2, SIZE) for seed in (5, 5, 6))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.depth, again.depth)
    assert torch.equal(first.world_from_cam, again.world_from_cam)
    assert not torch.equal(first.depth, other.depth)


def test_depth_alone_is_the_depth_of_the_picture():
    scene, intrinsics = build_scene(1), pinhole(SIZE)
    pose = arc(scene, 1, seed=1)[0]
    image, depth = render_view(scene, pose, intrinsics, SIZE)
    assert torch.equal(depth, render_depth(scene, pose, intrinsics, SIZE))
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert float(image.std()) > 0.05


def test_a_thing_casts_its_shadow():
    floor = Wall(torch.tensor([0.0, 0, 1]), 0.0)
    lamp = Light(torch.tensor([0.0, 0, 4]), torch.ones(3))
    bare = Body(floor, _plain(), casts_shadow=False)
    ball = Body(Sphere(torch.tensor([0.0, 0, 2]), 0.5), _plain())
    pose = look_at(torch.tensor([[3.0, 0, 1.0]]), torch.zeros(1, 3))[0]
    pictures = [
        render_view(
            ProceduralScene(bodies, (lamp,), (9.0, 9.0, 9.0)), pose, pinhole((3, 3)), (3, 3)
        )[0]
        for bodies in ((bare,), (bare, ball))
    ]
    under, nearby = pictures[0] - pictures[1], pictures[0][:, 2, 1] - pictures[1][:, 2, 1]
    assert float(under[:, 1, 1].min()) > 0.1
    torch.testing.assert_close(nearby, torch.zeros(3))


@pytest.mark.parametrize("pattern", list(PATTERNS))
def test_a_pattern_mixes_two_colors_and_uses_both(pattern):
    points = 9 * torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 4.5
    amount = PATTERNS[pattern](points)
    assert float(amount.min()) >= 0
    assert float(amount.max()) <= 1
    assert 0.1 < float(amount.mean()) < 0.9
    assert float(amount.std()) > 0.1
