"""Views of a lunar terrain: exact depth, hard shadows, a black sky."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.cameras import rays
from distill3r_core.scenes.lunar_terrain import LunarTerrain, build_terrain
from distill3r_core.scenes.paths import look_at, pinhole
from distill3r_core.scenes.render import RenderedScene
from distill3r_core.scenes.scene import RandomChoices

ViewKind = Literal["nadir", "pitch", "landing"]
VIEW_KINDS: tuple[ViewKind, ...] = ("nadir", "pitch", "landing")
FIELD_OF_VIEW = 50.0  # degrees, of the longer edge
FARTHEST = 60.0  # meters of depth; what is farther is sky, as 16 bits of millimeters end at 65
SKY = 0.0  # depth of the sky: unknown
_STEP = 0.5  # cells of a march along a ray
_BISECTIONS = 24  # halvings of a step that found the ground
_SUN = 2.6  # brightness of ground that faces the sun
_SHINE = 0.015  # what shadows get from the ground around them; there is no air
_LIFT = 0.02  # meters above the ground at which light is asked for: the rounding of shadows


def render_lunar(
    seed: int, views: int, size: tuple[int, int], *, kind: ViewKind = "pitch"
) -> RenderedScene:
    """Draw a terrain and a flight over it from a seed, and render it.

    Args:
        seed: The same seed gives the same terrain and flight, whatever number and size of views.
        kind: How the camera looks: straight down, ahead and down, or at a place that it nears.
    """
    terrain = build_terrain(seed)
    poses, intrinsics = flight(terrain, views, kind=kind, seed=seed), lunar_camera(size)
    rendered = [render_lunar_view(terrain, pose, intrinsics, size) for pose in poses]
    return RenderedScene(
        images=torch.stack([image for image, _ in rendered]),
        depth=torch.stack([depth for _, depth in rendered]),
        world_from_cam=poses,
        intrinsics=intrinsics.repeat(views, 1, 1),
    )


def lunar_camera(size: tuple[int, int]) -> Float[Tensor, "3 3"]:
    """Intrinsics of the camera of a flight."""
    return pinhole(size, degrees=FIELD_OF_VIEW)


def flight(
    terrain: LunarTerrain, views: int, *, kind: ViewKind, seed: int
) -> Float[Tensor, "N 4 4"]:
    """Cameras along a flight over a terrain: world_from_cam, OpenCV axes, meters.

    Heights are above the ground where the flight starts. `nadir` flies level at 20 to 30 m and
    looks down; `pitch` flies level at 10 to 14 m and looks 45 to 55 degrees away from straight
    down; `landing` falls from 40 m to 8 m towards a place ahead that it looks at.
    """
    draw = RandomChoices(seed + 1)
    heading = draw.uniform(0.0, math.tau)
    ahead = torch.tensor([math.cos(heading), math.sin(heading)])
    start = torch.tensor([draw.uniform(0.0, terrain.side), draw.uniform(0.0, terrain.side)])
    along = torch.linspace(0, 1, views)
    sway = 0.4 * torch.sin(math.tau * along + draw.uniform(0.0, math.tau))
    if kind == "landing":
        high, far = draw.uniform(34.0, 40.0), draw.uniform(14.0, 20.0)
        heights = high * (8.0 / high) ** along
        target = start + far * ahead
        centers = start + (0.8 * along * far)[:, None] * ahead
        looked = target.expand(views, 2)
    else:
        tilt = math.radians(draw.uniform(45.0, 55.0)) if kind == "pitch" else 0.0
        level = draw.uniform(10.0, 14.0) if kind == "pitch" else draw.uniform(20.0, 30.0)
        length = 1.1 * level
        centers = start + (along * length)[:, None] * ahead
        heights = torch.full((views,), level)
        # A camera that looks straight down has no heading of its own.
        looked = centers + max(level * math.tan(tilt), 1e-3) * ahead
    aside = torch.stack([-ahead[1], ahead[0]])
    centers = centers + sway[:, None] * aside
    ground = terrain.height(start[None])
    lifted = torch.cat([centers, (ground + heights)[:, None]], -1)
    targets = torch.cat([looked, terrain.height(looked)[:, None]], -1)
    if kind == "nadir":
        targets[:, :2] = centers + 1e-3 * ahead
        targets[:, 2] = 0.0
    return look_at(lifted, targets)


def render_lunar_view(
    terrain: LunarTerrain,
    world_from_cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """One image, RGB in [0, 1], and its depth; 0 where there is sky."""
    # z is 1 in the camera's frame, so the t of a hit is its depth.
    directions = rays(intrinsics, size).flatten(0, 1) @ world_from_cam[:3, :3].mT
    origins = world_from_cam[:3, 3].expand_as(directions)
    depth, hit = march(terrain, origins, directions, farthest=FARTHEST)
    points = origins + depth[:, None] * directions
    light = torch.where(hit, _light(terrain, points, -directions), 0.0)
    color = 1 - torch.exp(-light)  # a film's curve: sunlit slopes keep their detail
    image = color.reshape(size).expand(3, *size).contiguous()
    return image, torch.where(hit, depth, SKY).reshape(size)


def march(
    terrain: LunarTerrain,
    origins: Float[Tensor, "M 3"],
    directions: Float[Tensor, "M 3"],
    *,
    farthest: float,
) -> tuple[Float[Tensor, " M"], Bool[Tensor, " M"]]:
    """The t at which each ray meets the ground, and whether it does.

    A ray goes half a cell at a time from where it enters the layer that holds the ground, and the
    step that ends below the ground is halved until its ends are micrometers apart.

    Args:
        origins: Above the ground.
        directions: Of any length.
        farthest: Largest t that is looked at.
    """
    top, bottom = float(terrain.heights.max()), float(terrain.heights.min())
    fall = directions[:, 2]
    # Where the ray enters the layer, and where it has left it; a level ray is in it all the time.
    enter = torch.where(fall < 0, (top - origins[:, 2]) / fall, 0.0).clamp(0.0, farthest)
    below = torch.where(fall < 0, (bottom - origins[:, 2]) / fall, farthest)
    above = torch.where(fall > 0, (top - origins[:, 2]) / fall, farthest)
    leave = torch.minimum(below, above).clamp(max=farthest) + 1e-6
    level = directions[:, :2].norm(dim=-1).clamp(min=1e-6)
    # Along a steep ray a step is at most half a cell of height.
    step = _STEP * terrain.cell / torch.maximum(level, fall.abs())
    before, depth = enter.clone(), torch.full_like(enter, farthest)
    alive, hit = enter < leave, torch.zeros_like(enter, dtype=torch.bool)
    while bool(alive.any()):
        rows = alive.nonzero().squeeze(1)
        after = before[rows] + step[rows]
        points = origins[rows] + after[:, None] * directions[rows]
        under = points[:, 2] <= terrain.height(points[:, :2])
        found = rows[under]
        depth[found], hit[found] = after[under], True
        before[rows[~under]] = after[~under]
        alive[found] = False
        alive[rows] &= after < leave[rows]
    rows = hit.nonzero().squeeze(1)
    low, high = before[rows], depth[rows]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        points = origins[rows] + middle[:, None] * directions[rows]
        under = points[:, 2] <= terrain.height(points[:, :2])
        low, high = torch.where(under, low, middle), torch.where(under, middle, high)
    depth[rows] = (low + high) / 2
    return depth, hit


def _light(
    terrain: LunarTerrain, points: Float[Tensor, "M 3"], towards: Float[Tensor, "M 3"]
) -> Float[Tensor, " M"]:
    """Light that ground sends towards a camera: Lommel-Seeliger's law, and shadows.

    Dust scatters light by cos(i) / (cos(i) + cos(e)), so the ground is not darker at the rim of
    what one sees, as paint would be.
    """
    normal = terrain.normal(points[:, :2])
    facing = (normal * terrain.sun).sum(-1).clamp(min=0)
    seen = (normal * torch.nn.functional.normalize(towards, dim=-1)).sum(-1).clamp(min=1e-3)
    albedo = terrain.brightness(points[:, :2])
    lit = terrain.is_lit(points + _LIFT * normal)
    sunlit = torch.where(lit, facing / (facing + seen), 0.0)
    return albedo * (_SUN * sunlit + _SHINE)
