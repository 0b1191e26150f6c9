"""Term `gradient`: derivatives of the local maps are the teacher's (arXiv:2607.01851)."""

from functools import partial
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

from distill3r_core.config import STRICT
from distill3r_core.geometry.scale import normalize_scale
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions
from distill3r_core.losses.reduction import mean_per_sample

_SOBEL = ((-0.25, 0.0, 0.25), (-0.5, 0.0, 0.5), (-0.25, 0.0, 0.25))


@dataclass(frozen=True, config=STRICT, kw_only=True)
class GradientOptions(TermOptions):
    """Options of `gradient`.

    Args:
        lateral: Weight of the derivatives of x and y beside those of z.
        masked: Average over pixels alone all of whose neighbors are valid. The released code takes
            every valid pixel for z and every pixel for x and y.
        anchor_only: Compare the anchor alone, as released; otherwise all views.
        normalize: Divide both maps by their mean distance to the origin.
    """

    lateral: Annotated[float, Field(ge=0)] = 0.1
    masked: bool = True
    anchor_only: bool = False
    normalize: bool = False


def gradient_error(inputs: TermInputs, *, options: GradientOptions) -> Float[Tensor, ""]:
    """L1 of the differences of both derivatives, z and a share of x and y.

    With `masked` only pixels count all of whose neighbors are valid: the others' derivatives read
    zeros that stand for no point.
    """
    mask, targets = inputs.targets.valid_mask, inputs.targets
    predicted = inputs.predicted.points_local
    assert predicted is not None, "the student has no local map"
    wanted = targets.points_local
    if options.normalize:
        predicted, wanted = (
            normalize_scale(points, mask, per_view=True) for points in (predicted, wanted)
        )
    if options.anchor_only:
        predicted, wanted, mask = predicted[:, :1], wanted[:, :1], mask[:, :1]
    if options.masked:
        mask = inner(mask.flatten(0, 1)).reshape(mask.shape)
    return map_gradient_error(predicted, wanted, mask, options=options)


def map_gradient_error(
    predicted: Float[Tensor, "B N H W 3"],
    wanted: Float[Tensor, "B N H W 3"],
    mask: Bool[Tensor, "B N H W"],
    *,
    options: GradientOptions,
) -> Float[Tensor, ""]:
    """Mean over the pixels of each sample, then over the samples.

    Args:
        mask: The pixels that count; a derivative reads those around its own, valid or not.
    """
    error = (sobel(predicted) - sobel(wanted)).abs().sum(-1)  # (B, N, 3, H, W)
    x, y, z = error.unbind(2)
    depth = mean_per_sample(torch.where(mask, z, 0.0), mask)
    inside = mean_per_sample(torch.where(mask, x + y, 0.0), mask)
    sides = inside if options.masked else (x + y).mean()
    return depth + options.lateral * sides


def inner(mask: Bool[Tensor, "V H W"]) -> Bool[Tensor, "V H W"]:
    """Valid pixels all of whose neighbors in the image are valid."""
    outside = max_pool2d((~mask)[:, None].float(), 3, stride=1, padding=1)[:, 0]
    return outside == 0


def sobel(points: Float[Tensor, "B N H W 3"]) -> Float[Tensor, "B N 3 H W 2"]:
    """Derivatives of each coordinate along rows and columns of pixels, per two pixels.

    Sobel's kernel divided by 4; the map goes on beyond its rim as it is there.
    """
    batch, views = points.shape[:2]
    across = points.new_tensor(_SOBEL)
    kernel = torch.stack([across, across.mT])[:, None]  # (2, 1, 3, 3)
    flat = points.movedim(-1, 2).flatten(0, 2)[:, None]  # (B N 3, 1, H, W)
    found = conv2d(pad(flat, (1, 1, 1, 1), mode="replicate"), kernel)
    return found.movedim(1, -1).unflatten(0, (batch, views, 3))


GRADIENTS = LossTerm(
    label="gradients",
    summary="Difference of the derivatives of the local maps from the teacher's.",
    options=GradientOptions,
    build=lambda options: partial(gradient_error, options=options),
    local=True,
)
