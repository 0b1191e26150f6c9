"""From the four channels of a head to points and a confidence."""

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-8


def points_from_raw(raw: Float[Tensor, "*axes 3"]) -> Float[Tensor, "*axes 3"]:
    """Points whose distance to the origin is `exp(|raw|) - 1`, in the direction of `raw`."""
    distance = raw.norm(dim=-1, keepdim=True)
    return raw * (torch.expm1(distance) / distance.clamp(min=_TINY))


def confidence_from_raw(raw: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """`1 + exp(raw)`, in [1, inf)."""
    return 1 + raw.exp()
