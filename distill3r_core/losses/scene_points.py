"""Term `scene_points`: distance to the teacher's points in the frame of a known scene.

The mean squared error of arXiv:2412.02039: over the valid pixels and the three coordinates, in
units of the scene's root mean square radius.
"""

from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import huber_loss, l1_loss, mse_loss

from distill3r_core.config import STRICT
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions

Error = Literal["mse", "l1", "huber"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ScenePointsOptions(TermOptions):
    """Options of the term.

    Args:
        error: Of a coordinate: its square, its amount, or Huber's, which is half the square up to
            `huber_delta` and linear beyond.
        huber_delta: In units of the scene's radius.
        weighting: What pixels are weighted by: nothing, or the teacher's confidence.
    """

    error: Error = "mse"
    huber_delta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    weighting: Literal["none", "confidence"] = "none"


def scene_points_error(inputs: TermInputs, *, options: ScenePointsOptions) -> Float[Tensor, ""]:
    """Mean error of a coordinate over a sample's valid pixels, and over the samples.

    A sample without a valid pixel that has a place in the scene adds 0.

    Values outside the mask, NaN included, change neither the loss nor a gradient.
    """
    predicted, targets = inputs.predicted.points_global, inputs.targets
    assert predicted is not None, "the student has no global map"
    mask = targets.global_mask
    mine = torch.where(mask[..., None], predicted, 0.0)
    wanted = torch.where(mask[..., None], targets.points_global, 0.0)
    if options.error == "mse":
        error = mse_loss(mine, wanted, reduction="none")
    elif options.error == "l1":
        error = l1_loss(mine, wanted, reduction="none")
    else:
        error = huber_loss(mine, wanted, reduction="none", delta=options.huber_delta)
    weight = mask.to(error.dtype)
    if options.weighting == "confidence":
        weight = torch.where(mask, targets.confidence_global, 0.0).to(error.dtype)
    total = weight.sum((1, 2, 3))
    whole = (error.mean(-1) * weight).sum((1, 2, 3))
    return (whole / torch.where(total > 0, total, 1.0)).mean()


SCENE_POINTS = LossTerm(
    label="scene points",
    summary="Error of coordinates in the frame of a scene that the student learns.",
    options=ScenePointsOptions,
    build=lambda options: partial(scene_points_error, options=options),
)
