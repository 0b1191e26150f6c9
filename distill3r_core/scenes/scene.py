"""Rooms with things in them, drawn from a seed."""

import colorsys
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.scenes.surfaces import Box, Relief, Sphere, Surface, Wall
from distill3r_core.scenes.textures import PATTERNS, Light, Texture

THINGS_RADIUS = 1.1  # meters around the middle of the room where things stand; cameras stay out


@dataclass(frozen=True)
class Body:
    """A surface and what it is painted with. `casts_shadow` is False for the room itself."""

    surface: Surface
    texture: Texture
    casts_shadow: bool = True


@dataclass(frozen=True)
class ProceduralScene:
    """A closed room: every ray from within it ends on a body.

    Args:
        size: Width, depth and height of the room, meters; its floor's middle is the origin.
    """

    bodies: tuple[Body, ...]  # walls, floor, ceiling and things
    lights: tuple[Light, ...]  # lamps, the one that casts shadows first
    size: tuple[float, float, float]


class RandomChoices:
    """Random choices in a fixed order; the same seed gives the same choices."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """A number."""
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def vector(self, low: float, high: float, *shape: int) -> Tensor:
        """A tensor of independent numbers."""
        return low + (high - low) * torch.rand(shape, generator=self._generator)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both possible."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def color(self, *, hue: float, spread: float, value: float) -> Float[Tensor, "3"]:
        """A color near a hue."""
        hue = (hue + self.uniform(-spread, spread)) % 1
        rgb = colorsys.hsv_to_rgb(hue, self.uniform(0.35, 0.9), self.uniform(value, 1.0))
        return torch.tensor(rgb)


def build_scene(seed: int) -> ProceduralScene:
    """A room with boxes, balls, a flat or hilly floor, patterns and lamps, all by the seed."""
    draw = RandomChoices(seed)
    width, depth, height = draw.uniform(6.0, 7.5), draw.uniform(6.0, 7.5), draw.uniform(2.6, 3.4)
    floor: Surface = _relief(draw) if draw.uniform(0.0, 1.0) < 0.5 else _wall(0, 0, 1, 0.0)
    shell = [
        floor,
        _wall(0, 0, -1, -height),
        _wall(1, 0, 0, -width / 2),
        _wall(-1, 0, 0, -width / 2),
        _wall(0, 1, 0, -depth / 2),
        _wall(0, -1, 0, -depth / 2),
    ]
    # Hues a golden angle apart: neighbours differ, whatever the seed.
    hue = draw.uniform(0.0, 1.0)
    bodies = []
    for index, surface in enumerate(shell):
        texture = _texture(draw, hue=hue + 0.382 * index, period=(0.5, 1.2))
        bodies.append(Body(surface, texture, casts_shadow=False))
    for index in range(draw.integer(5, 7)):
        if index % 2 == 0:
            half = draw.vector(0.15, 0.4, 3)
            half[2] *= draw.uniform(0.8, 1.8)
            surface = Box(_place(draw, float(half[2])), half, _turned(draw))
        else:
            radius = draw.uniform(0.15, 0.42)
            surface = Sphere(_place(draw, radius + draw.uniform(0.0, 0.6)), radius)
        texture = _texture(draw, hue=hue + 0.19 + 0.382 * index, period=(0.15, 0.5))
        bodies.append(Body(surface, texture))
    lights = []
    for strength in (1.6, 0.7):
        position = torch.tensor(
            [
                draw.uniform(-width / 3, width / 3),
                draw.uniform(-depth / 3, depth / 3),
                draw.uniform(0.75, 0.95) * height,
            ]
        )
        tint = draw.vector(0.8, 1.0, 3)
        lights.append(Light(position, strength * tint))
    return ProceduralScene(tuple(bodies), tuple(lights), (width, depth, height))


def _wall(x: int, y: int, z: int, offset: float) -> Wall:
    return Wall(torch.tensor([x, y, z], dtype=torch.float32), offset)


def _relief(draw: RandomChoices) -> Relief:
    directions = draw.vector(0.0, math.tau, 3)
    lengths = draw.vector(1.0, 3.0, 3)  # meters from crest to crest
    waves = torch.stack([directions.cos(), directions.sin()], -1) * (math.tau / lengths)[:, None]
    # High waves are long ones: no slope is steeper than one in two.
    amplitudes = draw.vector(0.3, 1.0, 3) * lengths * 0.08 / 3
    return Relief(0.0, amplitudes, waves, draw.vector(0.0, math.tau, 3))


def _turned(draw: RandomChoices) -> Float[Tensor, "3 3"]:
    angle = draw.uniform(0.0, math.pi / 2)
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _place(draw: RandomChoices, height: float) -> Float[Tensor, "3"]:
    angle, radius = draw.uniform(0.0, math.tau), THINGS_RADIUS * math.sqrt(draw.uniform(0.02, 1.0))
    return torch.tensor([radius * math.cos(angle), radius * math.sin(angle), height])


def _texture(draw: RandomChoices, *, hue: float, period: tuple[float, float]) -> Texture:
    names = list(PATTERNS)
    colors = [
        draw.color(hue=hue, spread=0.05, value=0.55),
        draw.color(hue=hue + 0.08, spread=0.08, value=0.25),
        draw.color(hue=hue + 0.5, spread=0.15, value=0.3),
    ]
    return Texture(
        pattern=names[draw.integer(0, len(names) - 1)],
        colors=torch.stack(colors),
        frame=_turned(draw) / draw.uniform(*period),
        phase=draw.vector(0.0, 7.0, 3),
        waves=draw.vector(-2.0, 2.0, 3, 3),
    )
