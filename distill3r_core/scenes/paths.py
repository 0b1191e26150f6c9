"""Where cameras stand: arcs around the things in the middle of a room."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.scenes.scene import THINGS_RADIUS, ProceduralScene, RandomChoices

ARC = 69.0  # degrees between the first and the last camera
FIELD_OF_VIEW = 62.0  # degrees, of the longer edge of an image
_OUT = 0.4  # meters kept free around things and walls


def arc(
    scene: ProceduralScene, views: int, *, seed: int, degrees: float = ARC
) -> Float[Tensor, "N 4 4"]:
    """Cameras on an arc around the middle of a room, looking at it.

    Args:
        views: How many, evenly spaced.
        seed: Seed of the start and height of the arc and of what the cameras look at.
        degrees: Between the first camera and the last.

    Returns:
        world_from_cam, OpenCV axes, meters.
    """
    draw = RandomChoices(seed)
    start = draw.uniform(0.0, math.tau)
    radius = draw.uniform(0.75, 1.0) * (min(scene.size[:2]) / 2 - _OUT)
    radius = max(radius, THINGS_RADIUS + 2 * _OUT)
    height = draw.uniform(0.4, 0.6) * scene.size[2]
    sway = draw.uniform(0.1, 0.25)
    target = torch.tensor([draw.uniform(-0.3, 0.3), draw.uniform(-0.3, 0.3), 0.7])
    along = torch.linspace(0, 1, views)
    angle = start + math.radians(degrees) * along
    heights = height + sway * torch.sin(math.tau * along)
    centers = torch.stack([radius * angle.cos(), radius * angle.sin(), heights], -1)
    return look_at(centers, target.expand_as(centers))


def look_at(centers: Float[Tensor, "N 3"], targets: Float[Tensor, "N 3"]) -> Float[Tensor, "N 4 4"]:
    """Upright cameras at `centers` that look at `targets`: world_from_cam, OpenCV axes."""
    forward = torch.nn.functional.normalize(targets - centers, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    pose = torch.eye(4).repeat(len(centers), 1, 1)
    pose[:, :3] = torch.stack([right, down, forward, centers], -1)
    return pose


def pinhole(size: tuple[int, int], *, degrees: float = FIELD_OF_VIEW) -> Float[Tensor, "3 3"]:
    """Intrinsics of an image, centers at +0.5, with a field of view along its longer edge."""
    height, width = size
    focal = max(size) / 2 / math.tan(math.radians(degrees) / 2)
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
