"""Patterns in space, and the light that falls on them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Points = Float[Tensor, "M 3"]
Amounts = Float[Tensor, " M"]  # 0: the first color, 1: the second

AMBIENT = 0.45
_FULL_LIGHT = 2.5  # meters at which a light has half its strength
_STAIN = 0.6  # how much of the third color the slow stain brings in at most


@dataclass(frozen=True)
class Texture:
    """Two colors in a pattern and a third that stains both slowly, so that no two places match.

    Args:
        frame: Rows are the axes of the pattern in the world, times repetitions per meter.
    """

    pattern: str
    colors: Float[Tensor, "3 3"]  # RGB in [0, 1]
    frame: Float[Tensor, "3 3"]
    phase: Float[Tensor, "3"]
    waves: Float[Tensor, "3 3"]  # wave vectors of the stain, radians per meter

    def albedo(self, points: Points) -> Points:
        """RGB in [0, 1] at points of the world."""
        amount = PATTERNS[self.pattern](points @ self.frame.mT + self.phase)[:, None]
        base = torch.lerp(self.colors[0], self.colors[1], amount)
        stain = torch.sin(points @ self.waves.mT + self.phase)
        strength = _STAIN * (0.5 + 0.5 * stain.mean(-1, keepdim=True))
        return torch.lerp(base, self.colors[2].expand_as(base), strength)


@dataclass(frozen=True)
class Light:
    """A small lamp."""

    position: Float[Tensor, "3"]
    color: Float[Tensor, "3"]  # RGB strength near the lamp

    def falling_on(self, points: Points, normals: Points) -> Points:
        """RGB irradiance of matte surfaces, were nothing in the way."""
        offset = self.position - points
        distance = offset.norm(dim=-1, keepdim=True)
        facing = (normals * offset).sum(-1, keepdim=True) / distance
        return self.color * facing.clamp(min=0) / (1 + (distance / _FULL_LIGHT) ** 2)


def _bricks(p: Points) -> Amounts:
    row = (2 * p[:, 2]).floor()
    # On an upright wall one of the horizontal axes is constant, so their sum runs along it.
    along = p[:, 0] + p[:, 1] + 0.5 * row.remainder(2)
    across = 2 * p[:, 2] - row
    joint = torch.minimum((along - along.round()).abs(), (across - across.round()).abs() / 2)
    return _edge(0.06 - joint, width=0.03)


def _marble(p: Points) -> Amounts:
    warp = torch.sin(1.7 * p[:, 1] + 2.1 * torch.sin(1.3 * p[:, 2]))
    return 0.5 + 0.5 * torch.sin(3 * (p[:, 0] + warp))


def _clouds(p: Points) -> Amounts:
    coarse = torch.sin(2 * p).prod(-1)
    fine = torch.sin(4.3 * p.roll(1, -1) + 1.1).prod(-1)
    return (0.5 + 0.4 * coarse + 0.3 * fine).clamp(0, 1)


def _edge(value: Amounts, *, width: float = 0.2) -> Amounts:
    """A step from 0 to 1 at zero that is `width` wide: no hard edge, less aliasing."""
    return (0.5 + value / (2 * width)).clamp(0, 1)


PATTERNS: dict[str, Callable[[Points], Amounts]] = {
    "checker": lambda p: p.floor().sum(-1).remainder(2),
    "stripes": lambda p: _edge(torch.sin(math.tau * p.sum(-1))),
    "dots": lambda p: _edge(0.4 - (p - p.floor() - 0.5).norm(dim=-1), width=0.05),
    "bricks": _bricks,
    "marble": _marble,
    "clouds": _clouds,
}
