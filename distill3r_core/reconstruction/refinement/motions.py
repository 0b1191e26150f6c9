"""Rigid motions as twists: exponential, logarithm, adjoint, composition.

A twist is (w, v), a turn and a shift; a motion is `[R | t]`, (3, 4).
"""

import torch
from jaxtyping import Float
from torch import Tensor

_SMALL = 1e-4  # radians below which series replace quotients of sines


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix `[v]x` with `[v]x y = v x y`."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def exponential(twist: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 4"]:
    """The motion `[R | t]` of a twist (Rodrigues; Barfoot, State Estimation for Robotics, 7.2)."""
    turn, shift = twist.split(3, dim=-1)
    angle = turn.norm(dim=-1)[..., None, None]
    safe = angle.clamp(min=_SMALL)
    small = angle < _SMALL
    square = angle.square()
    sine = torch.where(small, 1 - square / 6, safe.sin() / safe)
    versine = torch.where(small, 0.5 - square / 24, (1 - safe.cos()) / safe.square())
    rest = torch.where(small, 1 / 6 - square / 120, (safe - safe.sin()) / safe.pow(3))
    K = cross_matrix(turn)
    eye = torch.eye(3, dtype=twist.dtype, device=twist.device)
    rotation = eye + sine * K + versine * (K @ K)
    left = eye + versine * K + rest * (K @ K)
    return torch.cat([rotation, left @ shift[..., None]], dim=-1)


def logarithm(motion: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 6"]:
    """The twist of a motion that turns by less than half a turn."""
    rotation, shift = motion[..., :3], motion[..., 3:]
    skew = rotation - rotation.mT
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1) / 2
    sine = axis.norm(dim=-1, keepdim=True)
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    turn = axis * torch.where(sine < _SMALL, 1 + angle.square() / 6, angle / sine.clamp(min=1e-12))
    K = cross_matrix(turn)
    half = angle[..., None].clamp(min=_SMALL) / 2
    factor = torch.where(angle[..., None] < _SMALL, 1 / 12, (1 - half / half.tan()) / (4 * half**2))
    eye = torch.eye(3, dtype=motion.dtype, device=motion.device)
    inverse = eye - K / 2 + factor * (K @ K)
    return torch.cat([turn, (inverse @ shift)[..., 0]], dim=-1)


def adjoint(motion: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 6 6"]:
    """The matrix with `M exp(x) = exp(adjoint(M) x) M`."""
    rotation = motion[..., :3]
    zero = torch.zeros_like(rotation)
    top = torch.cat([rotation, zero], dim=-1)
    bottom = torch.cat([cross_matrix(motion[..., 3]) @ rotation, rotation], dim=-1)
    return torch.cat([top, bottom], dim=-2)


def inverse(motion: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 3 4"]:
    """The motion that leads back."""
    back = motion[..., :3].mT
    return torch.cat([back, -back @ motion[..., 3:]], dim=-1)


def chain(
    outer: Float[Tensor, "*batch 3 4"], inner: Float[Tensor, "*batch 3 4"]
) -> Float[Tensor, "*batch 3 4"]:
    """The motion that applies `inner` first, then `outer`."""
    linear = outer[..., :3] @ inner[..., :3]
    return torch.cat([linear, outer[..., :3] @ inner[..., 3:] + outer[..., 3:]], dim=-1)


def turn_degrees(motion: Float[Tensor, "*batch 3 _"]) -> Float[Tensor, "*batch"]:
    """By how many degrees a motion turns."""
    rotation = motion[..., :3]
    skew = rotation - rotation.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).norm(dim=-1)
    return torch.atan2(sine, rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1).rad2deg()
