"""The ray caster: images and exact depth of a scene."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from distill3r_core.geometry.cameras import rays
from distill3r_core.scenes import paths
from distill3r_core.scenes.scene import ProceduralScene, build_scene
from distill3r_core.scenes.surfaces import MISSED
from distill3r_core.scenes.textures import AMBIENT

_EXPOSURE = 1.6
_LIFT = 1e-3  # meters that a shadow ray starts above its surface


@dataclass(frozen=True)
class RenderedScene:
    """Views of one scene."""

    images: Float[Tensor, "N 3 H W"]  # RGB in [0, 1]
    depth: Float[Tensor, "N H W"]  # z in each camera's frame, meters, exact at the pixels' centers
    world_from_cam: Float[Tensor, "N 4 4"]  # OpenCV axes, meters
    intrinsics: Float[Tensor, "N 3 3"]  # pixels, centers at +0.5


def render_scene(
    seed: int, views: int, size: tuple[int, int], *, degrees: float = paths.ARC
) -> RenderedScene:
    """Draw a scene and an arc of cameras from a seed, and render it.

    Args:
        seed: The same seed gives the same room and arc, whatever the number and size of views.
    """
    scene = build_scene(seed)
    poses = paths.arc(scene, views, seed=seed, degrees=degrees)
    intrinsics = paths.pinhole(size)
    rendered = [render_view(scene, pose, intrinsics, size) for pose in poses]
    return RenderedScene(
        images=torch.stack([image for image, _ in rendered]),
        depth=torch.stack([depth for _, depth in rendered]),
        world_from_cam=poses,
        intrinsics=intrinsics.repeat(views, 1, 1),
    )


def render_view(
    scene: ProceduralScene,
    world_from_cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """One image, RGB in [0, 1], and its depth."""
    origins, directions = _rays(world_from_cam, intrinsics, size)
    depth, body = cast(scene, origins, directions)
    points = origins + depth[:, None] * directions
    color = _shade(scene, points, body)
    return color.mT.reshape(3, *size), depth.reshape(size)


def render_depth(
    scene: ProceduralScene,
    world_from_cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
) -> Float[Tensor, "H W"]:
    """The depth of one image, without the cost of its colors."""
    return cast(scene, *_rays(world_from_cam, intrinsics, size))[0].reshape(size)


def _rays(
    world_from_cam: Tensor, intrinsics: Tensor, size: tuple[int, int]
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, "M 3"]]:
    """Origins and directions through the pixels' centers, in the world."""
    # z is 1 in the camera's frame, so the t of a hit is its depth.
    directions = rays(intrinsics, size).flatten(0, 1) @ world_from_cam[:3, :3].mT  # (H*W, 3)
    return world_from_cam[:3, 3].expand_as(directions), directions


def cast(
    scene: ProceduralScene, origins: Float[Tensor, "M 3"], directions: Float[Tensor, "M 3"]
) -> tuple[Float[Tensor, " M"], Int64[Tensor, " M"]]:
    """The t of the first hit of each ray, and the number of the body that it hits."""
    hits = torch.stack([body.surface.intersect(origins, directions) for body in scene.bodies])
    nearest = hits.min(dim=0)
    return nearest.values, nearest.indices


def _shade(
    scene: ProceduralScene, points: Float[Tensor, "M 3"], body: Int64[Tensor, " M"]
) -> Float[Tensor, "M 3"]:
    albedo, normals = torch.zeros_like(points), torch.zeros_like(points)
    for number, candidate in enumerate(scene.bodies):
        hit = (body == number).nonzero().squeeze(1)
        albedo[hit] = candidate.texture.albedo(points[hit])
        normals[hit] = candidate.surface.normals(points[hit])
    light = torch.full_like(points, AMBIENT)
    for number, lamp in enumerate(scene.lights):
        falling = lamp.falling_on(points, normals)
        if number == 0:
            lit = _reaches(scene, points + _LIFT * normals, lamp.position)
            falling = torch.where(lit[:, None], falling, 0.0)
        light = light + falling
    # A film's curve: bright places keep their pattern.
    return 1 - torch.exp(-_EXPOSURE * albedo * light)


def _reaches(scene: ProceduralScene, points: Tensor, lamp: Tensor) -> Tensor:
    """Whether nothing stands between points and a lamp."""
    towards = lamp - points  # t = 1 is the lamp
    free = torch.ones(len(points), dtype=torch.bool)
    for body in scene.bodies:
        if body.casts_shadow:
            t = body.surface.intersect(points, towards)
            free &= (t == MISSED) | (t > 1)
    return free
