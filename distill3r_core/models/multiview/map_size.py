"""The size of each view's map, predicted apart from its shape.

Heads that learn meters with their points make new views too large (docs/benchmarks.md, "Meters").
Here they keep whatever size they like, and one linear layer says how large each view's map is. It
reads the tokens and sends no gradient back to them.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from distill3r_core.types import PointMaps

_NEAREST = 1e-6  # median distance of a map whose points are all at the origin


class MapSize(nn.Module):
    """Logarithm of the median distance of each view's points.

    Untrained it says 0, a distance of one.

    Args:
        width: Channels of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # Zeros, drawn from nothing: with and without it a seed gives the same other weights.
        self.weight = nn.Parameter(torch.zeros(1, width))
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def untrained(self) -> bool:
        """Whether it still says what it was built with."""
        return not (self.weight.any() or self.bias.any())

    def begin(self, log_size: float) -> None:
        """Say this of every view, until it is trained."""
        with torch.no_grad():
            self.bias.fill_(log_size)

    def forward(
        self, tokens: Float[Tensor, "B T C"], lengths: Sequence[int]
    ) -> Float[Tensor, "B N"]:
        """From the tokens of all views, one view after the other, to which no gradient goes.

        Args:
            lengths: Number of tokens of every view; they add up to T.
        """
        views = tokens.detach().split(list(lengths), dim=1)
        mean = torch.stack([view.mean(1, dtype=self.weight.dtype) for view in views], dim=1)
        width = mean.shape[-1]
        # Not in an autocast's lower precision: it would round lengths to 1 %.
        with torch.autocast(mean.device.type, enabled=False):
            # Of unit length: else all weights together outrun the bias, and what the samples have
            # in common hangs on tokens, which new views do not share.
            direction = layer_norm(mean, (width,)) / width**0.5
            return linear(direction, self.weight, self.bias)[..., 0]


def give_size(
    maps: PointMaps | list[PointMaps], log_size: Float[Tensor, "B N"]
) -> PointMaps | list[PointMaps]:
    """The maps of a sample's views at the sizes that are said of them.

    A local map is brought to the size of its view, and all global maps together to where that of
    view 0 has the size of view 0: what the others are beside it is their shape's. Without
    gradients the points are changed in place.

    Args:
        maps: Of all views at once, (B, N, ...), or of each view of one sample, (1, ...).
        log_size: It gets no gradient from the points; a loss finds it beside them.
    """
    views = [maps] if isinstance(maps, PointMaps) else maps
    parts = [log_size] if isinstance(maps, PointMaps) else list(log_size[0].split(1))
    first, found = views[0].points_global, []
    common = None
    if first is not None:
        common = _factor(first[..., :1, :, :, :], parts[0][..., :1])
    for view, size in zip(views, parts, strict=True):
        view = replace(view, log_size=size.to(_device(view)))
        if view.points_local is not None:
            factor = _factor(view.points_local, size)
            view = replace(
                view,
                points_local=_scaled(view.points_local, factor),
                log_resized_local=_log(factor),
            )
        if view.points_global is not None and common is not None:
            view = replace(
                view,
                points_global=_scaled(view.points_global, common),
                log_resized_global=_log(common).expand(view.points_global.shape[:-3]),
            )
        found.append(view)
    return found[0] if isinstance(maps, PointMaps) else found


@torch.no_grad()
def _factor(
    points: Float[Tensor, "*batch N H W 3"], log_size: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch N 1 1 1"]:
    """What brings the median distance of each map to its size; values that are no number apart."""
    distances = torch.linalg.vector_norm(points, dim=-1).flatten(-2)
    median = distances.nanmedian(-1).values.clamp(min=_NEAREST)
    return (log_size.to(median).exp() / median)[..., None, None, None]


def _scaled(points: Tensor, factor: Tensor) -> Tensor:
    return points * factor if torch.is_grad_enabled() else points.mul_(factor)


def _log(factor: Float[Tensor, "*batch N 1 1 1"]) -> Float[Tensor, "*batch N"]:
    return factor[..., 0, 0, 0].log()


def _device(maps: PointMaps) -> torch.device:
    known = maps.points_global if maps.points_local is None else maps.points_local
    assert known is not None
    return known.device
