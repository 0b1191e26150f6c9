"""Shapes that a ray may hit, each with its exact distance and normal.

World axes: x and y horizontal, z up, meters. A ray is `origin + t * direction`, t > 0; directions
need no unit length, and t is in units of theirs.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "M 3"]
Distances = Float[Tensor, " M"]

MISSED = math.inf
_NEAREST = 1e-4  # a ray that starts on a surface does not hit it
_MARCH_STEPS = 64  # a tenth of a meter in a room: a tenth of the shortest wave of a relief
_BISECTIONS = 24  # a tenth of a meter / 2^24: float32's limit


@runtime_checkable
class Surface(Protocol):
    """What a scene is made of."""

    def intersect(self, origins: Points, directions: Points) -> Distances:
        """The t of the first hit; infinite where the ray misses."""
        ...

    def normals(self, points: Points) -> Points:
        """Unit normals, outward, at points that lie on the surface."""
        ...


@dataclass(frozen=True)
class Wall:
    """The plane `normal @ p = offset`, seen from the side its normal points to."""

    normal: Float[Tensor, "3"]
    offset: float

    def intersect(self, origins: Points, directions: Points) -> Distances:
        """See `Surface`."""
        towards = directions @ self.normal
        t = (self.offset - origins @ self.normal) / towards
        return torch.where((towards < 0) & (t > _NEAREST), t, MISSED)

    def normals(self, points: Points) -> Points:
        """See `Surface`."""
        return self.normal.expand_as(points)


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    center: Float[Tensor, "3"]
    radius: float

    def intersect(self, origins: Points, directions: Points) -> Distances:
        """See `Surface`."""
        offset = origins - self.center
        a = directions.square().sum(-1)
        half_b = (offset * directions).sum(-1)
        # The distance of the ray to the center, not b² - ac: that one cancels for small spheres.
        closest = offset - (half_b / a)[:, None] * directions
        inside = self.radius**2 - closest.square().sum(-1)
        t = (-half_b / a) - (inside.clamp(min=0) / a).sqrt()
        return torch.where((inside > 0) & (t > _NEAREST), t, MISSED)

    def normals(self, points: Points) -> Points:
        """See `Surface`."""
        return (points - self.center) / self.radius


@dataclass(frozen=True)
class Box:
    """A box that may be turned about the vertical."""

    center: Float[Tensor, "3"]
    half: Float[Tensor, "3"]  # half its size along its own axes
    axes: Float[Tensor, "3 3"]

    def intersect(self, origins: Points, directions: Points) -> Distances:
        """See `Surface`."""
        origin, direction = (origins - self.center) @ self.axes.mT, directions @ self.axes.mT
        # A direction of exactly zero would make 0 * inf on the edge of a slab.
        direction = torch.where(direction == 0, 1e-20, direction)
        first, second = (-self.half - origin) / direction, (self.half - origin) / direction
        enter = torch.minimum(first, second).amax(-1)
        leave = torch.maximum(first, second).amin(-1)
        return torch.where((enter < leave) & (enter > _NEAREST), enter, MISSED)

    def normals(self, points: Points) -> Points:
        """See `Surface`."""
        local = (points - self.center) @ self.axes.mT
        axis = (local.abs() - self.half).argmax(-1)
        sign = local.gather(-1, axis[:, None]).sign()
        return self.axes[axis] * sign


@dataclass(frozen=True)
class Relief:
    """A floor of hills: a height field, the sum of a few plane waves."""

    base: float
    amplitudes: Float[Tensor, " K"]
    waves: Float[Tensor, "K 2"]  # wave vectors, radians per meter
    phases: Float[Tensor, " K"]

    def height(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        """Height of the floor under (or over) points."""
        return self.base + torch.sin(points[..., :2] @ self.waves.mT + self.phases) @ (
            self.amplitudes
        )

    def intersect(self, origins: Points, directions: Points) -> Distances:
        """The first crossing, found by marching and refined by bisection; see `Surface`.

        A crest that a ray cuts for less than one step, a tenth of a meter, may be missed.
        """
        rise = float(self.amplitudes.abs().sum())
        result = torch.full_like(origins[:, 0], MISSED)
        down = directions[:, 2] < 0
        origins, directions = origins[down], directions[down]
        top = (self.base + rise - origins[:, 2]) / directions[:, 2]
        bottom = (self.base - rise - origins[:, 2]) / directions[:, 2]
        before = top.clamp(min=_NEAREST)
        stride = (bottom - before) / _MARCH_STEPS
        above = torch.ones_like(before, dtype=torch.bool)
        for _ in range(_MARCH_STEPS):
            ahead = before + stride
            above &= self._gap(origins, directions, ahead) > 0
            before = torch.where(above, ahead, before)  # a ray that is through stays
        after = before + stride
        for _ in range(_BISECTIONS):
            middle = (before + after) / 2
            below = self._gap(origins, directions, middle) <= 0
            before, after = torch.where(below, before, middle), torch.where(below, middle, after)
        result[down] = torch.where((after > _NEAREST) & (stride > 0), after, MISSED)
        return result

    def normals(self, points: Points) -> Points:
        """See `Surface`."""
        slopes = torch.cos(points[:, :2] @ self.waves.mT + self.phases) * self.amplitudes
        gradient = slopes @ self.waves
        upward = torch.cat([-gradient, torch.ones_like(gradient[:, :1])], -1)
        return torch.nn.functional.normalize(upward, dim=-1)

    def _gap(self, origins: Points, directions: Points, t: Distances) -> Distances:
        points = origins + t[:, None] * directions
        return points[:, 2] - self.height(points)
