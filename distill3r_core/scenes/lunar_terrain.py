"""Procedural ground of the Moon: craters by a size-frequency law on rough hills.

The ground is a height field over a square that repeats itself in both directions, so it has no
rim. Heights between the grid's nodes are bilinear, which is the surface that is rendered.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.scenes.scene import RandomChoices

# N craters larger than D per area go with D^-2: the slope of a surface whose small craters are
# made as fast as they are worn away (Gault 1970; about 0.02 D^-2 are there at most).
SLOPE = 2.0
DENSITY = 0.02  # times D^-2: craters per square meter that are larger than D meters
_SMALLEST = 4  # cells across the smallest crater
_LARGEST = 0.3  # of the side of the square, across the largest crater
_DEPTH = 0.2  # depth over diameter of a fresh simple crater (Pike 1977)
_RIM = 0.04  # height of its rim over its diameter
_EJECTA = 3.0  # the rim falls off outward with this power of the distance
_REACH = 3.0  # radii within which a crater changes the ground
_ROUGHNESS = 0.9  # Hurst exponent of the hills (Rosenburg et al. 2011 find 0.7 to 0.95)
_DARKEST, _BRIGHTEST = 0.75, 1.15  # of the mean albedo


@dataclass(frozen=True)
class LunarTerrain:
    """Ground, albedo and sun. The world's z is up, all lengths are in meters.

    Args:
        heights: At the nodes of a grid; row i is at x = i cells, column j at y = j cells.
        albedo: Relative brightness at the same nodes.
        cell: Distance of two nodes.
        sun: Unit vector towards the sun.
    """

    heights: Float[Tensor, "G G"]
    albedo: Float[Tensor, "G G"]
    cell: float
    sun: Float[Tensor, "3"]

    @property
    def side(self) -> float:
        """Side of the square that repeats itself."""
        return self.cell * len(self.heights)

    def height(self, places: Float[Tensor, "*axes 2"]) -> Float[Tensor, "*axes"]:
        """Height of the ground below or above some places (x, y)."""
        return bilinear(self.heights, places / self.cell)

    def normal(self, places: Float[Tensor, "*axes 2"]) -> Float[Tensor, "*axes 3"]:
        """Unit normals for shading, upward: those of the nodes, blended between them."""
        across, along = (
            (self.heights.roll(-1, axis) - self.heights.roll(1, axis)) / (2 * self.cell)
            for axis in (0, 1)
        )
        slopes = [bilinear(slope, places / self.cell) for slope in (across, along)]
        upward = torch.stack([-slopes[0], -slopes[1], torch.ones_like(slopes[0])], -1)
        return torch.nn.functional.normalize(upward, dim=-1)

    def brightness(self, places: Float[Tensor, "*axes 2"]) -> Float[Tensor, "*axes"]:
        """Relative albedo of the ground."""
        return bilinear(self.albedo, places / self.cell)

    def is_lit(self, points: Float[Tensor, "*axes 3"]) -> Bool[Tensor, "*axes"]:
        """Whether the sun reaches some points."""
        return points[..., 2] > bilinear(self.shadow, points[..., :2] / self.cell)

    @cached_property
    def shadow(self) -> Float[Tensor, "G G"]:
        """Height up to which each node's place lies in the shadow of ground towards the sun.

        Where the sun's ray over a distance is as high as ground there; the largest over twice the
        distance is that of both halves, so ten steps reach a thousand cells.
        """
        cells = len(self.heights)
        level = self.sun[:2].norm()
        towards, fall = self.sun[:2] / level, self.sun[2] / level
        nodes = torch.stack(
            torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij"), -1
        ).float()

        def ahead(field: Tensor, steps: float) -> Tensor:
            """A field at places nearer to the sun, lowered by the rise of its ray on the way."""
            return bilinear(field, nodes + steps * towards) - steps * self.cell * fall

        reached, distance = torch.maximum(ahead(self.heights, 0.5), ahead(self.heights, 1.0)), 1.0
        while distance * self.cell * float(fall) < float(self.heights.max() - self.heights.min()):
            reached = torch.maximum(reached, ahead(reached, distance))
            distance *= 2
        return reached


def build_terrain(seed: int, *, cells: int = 384, cell: float = 0.25) -> LunarTerrain:
    """Draw a terrain.

    Args:
        seed: The same seed gives the same ground and sun.
        cells: Nodes along a side of the square; even.
        cell: Meters between two of them.
    """
    draw = RandomChoices(seed)
    generator = torch.Generator().manual_seed(seed)
    side = cells * cell
    hills = 0.012 * side * _rough(cells, generator)
    heights = hills + _craters(cells, cell, generator)
    elevation, azimuth = math.radians(draw.uniform(8.0, 25.0)), draw.uniform(0.0, math.tau)
    sun = torch.tensor(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    stains = (
        1 + 0.08 * _rough(cells, generator) + 0.03 * torch.randn(cells, cells, generator=generator)
    )
    return LunarTerrain(heights, stains.clamp(_DARKEST, _BRIGHTEST), cell, sun)


def crater_sizes(area: float, smallest: float, largest: float, draws: Tensor) -> Tensor:
    """Diameters by the size-frequency law, in meters.

    Args:
        area: Square meters of the ground.
        smallest: Smallest diameter.
        largest: Largest one.
        draws: Uniform numbers in [0, 1), at least as many as there are craters.
    """
    low, high = smallest**-SLOPE, largest**-SLOPE
    count = min(len(draws), round(DENSITY * area * (low - high)))
    return (low - draws[:count] * (low - high)) ** (-1 / SLOPE)


def crater_profile(
    distance: Float[Tensor, "*axes"], diameter: float, *, freshness: float
) -> Float[Tensor, "*axes"]:
    """What a crater adds to the height of the ground, by the distance to its center.

    Args:
        freshness: 1: as it was made; 0: worn away.
    """
    ratio = distance / (diameter / 2)
    depth, rim = _DEPTH * diameter, _RIM * diameter
    bowl = (depth + rim) * ratio.square() - depth
    outside = rim * ratio.clamp(min=1.0) ** -_EJECTA
    # The ejecta end at the reach, where they have all but fallen off.
    outside = outside - rim * _REACH**-_EJECTA
    inside = bowl - rim * _REACH**-_EJECTA
    profile = torch.where(ratio < 1, inside, outside)
    return freshness * torch.where(ratio < _REACH, profile, 0.0)


def _craters(cells: int, cell: float, generator: torch.Generator) -> Float[Tensor, "G G"]:
    """The sum of all craters; the square repeats, so a crater on its rim goes on opposite."""
    side = cells * cell
    most = torch.rand(20_000, generator=generator)
    diameters = crater_sizes(side**2, _SMALLEST * cell, _LARGEST * side, most)
    places = (cells * torch.rand(len(diameters), 2, generator=generator)).long()
    ages = torch.rand(len(diameters), generator=generator)
    ground = torch.zeros(cells, cells)
    # The largest first, as they hold the others.
    for number in diameters.argsort(descending=True).tolist():
        diameter = float(diameters[number])
        radius = min(math.ceil(_REACH * diameter / 2 / cell), cells // 2 - 1)
        steps = torch.arange(-radius, radius + 1)
        distance = cell * (steps[:, None].square() + steps.square()).sqrt()
        rows, columns = ((places[number, axis] + steps) % cells for axis in (0, 1))
        added = crater_profile(distance, diameter, freshness=0.25 + 0.75 * float(ages[number]))
        ground[rows[:, None], columns] += added
    return ground


def _rough(cells: int, generator: torch.Generator) -> Float[Tensor, "G G"]:
    """A self-affine field of deviation 1 that repeats itself."""
    noise = torch.fft.rfft2(torch.randn(cells, cells, generator=generator))
    rows, columns = torch.fft.fftfreq(cells)[:, None], torch.fft.rfftfreq(cells)
    frequency = (rows.square() + columns.square()).sqrt()
    frequency[0, 0] = torch.inf  # no mean
    field = torch.fft.irfft2(noise * frequency ** -(_ROUGHNESS + 1), s=(cells, cells))
    return field / field.std()


def bilinear(
    field: Float[Tensor, "G G"], places: Float[Tensor, "*axes 2"]
) -> Float[Tensor, "*axes"]:
    """A field that repeats itself, between its nodes.

    Args:
        places: In cells.
    """
    cells = len(field)
    node = places.floor()
    x, y = (places - node).unbind(-1)
    rows, columns = (node.long() % cells).unbind(-1)
    below, right = (rows + 1) % cells, (columns + 1) % cells
    flat = field.flatten()
    a, b = flat[rows * cells + columns], flat[rows * cells + right]
    c, d = flat[below * cells + columns], flat[below * cells + right]
    return (1 - x) * ((1 - y) * a + y * b) + x * ((1 - y) * c + y * d)
