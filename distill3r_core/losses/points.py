"""Terms `points_global` and `points_local`: scale-free squared distance to the teacher's points.

Equations (2) to (5) of Distill3R (arXiv:2602.00865). Points are divided by their mean distance to
the origin, the student's with gradient: per sample in the global frame (equation 4; the paper's
"batch" is the N views of one sample), per view in the local frames (equation 5).
"""

from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from distill3r_core.config import STRICT
from distill3r_core.geometry.scale import normalize_scale
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions
from distill3r_core.losses.reduction import Reduction, mean_per_sample, mean_per_view

Weighting = Literal["paper", "released", "none", "student"]

# The released code divides the confidence by ten and keeps the weight within these bounds.
RELEASED_DIVISOR = 10.0
RELEASED_BOUNDS = (0.1, 1.0)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PointsOptions(TermOptions):
    """Options of the point terms.

    Args:
        weighting: What the squared distances are multiplied by. `paper`: the teacher's
            confidence. `released`: a tenth of it, within [0.1, 1]. `none`: one. `student`: as
            `released`, but with the student's own confidence, with gradient.
        reduction: How pixels become one number. `paper`: the mean over the valid pixels of a
            sample, then over the samples. `released`: the mean over the valid pixels of one view
            in all samples, then over the views.
    """

    weighting: Weighting = "paper"
    reduction: Reduction = "paper"


def points_error(
    inputs: TermInputs, *, frame: Literal["global", "local"], options: PointsOptions
) -> Float[Tensor, ""]:
    """Weighted mean squared distance of the normalized points.

    Pixels are selected before anything is multiplied: values outside the mask, NaN included,
    change neither the loss nor a gradient. Global points of views without a place in the common
    frame (`local_only`) are such values. A view or a sample without a valid pixel adds zero.
    """
    targets = inputs.targets
    mask = targets.global_mask if frame == "global" else targets.valid_mask

    def normalized(points: Float[Tensor, "B N H W 3"]) -> Float[Tensor, "B N H W 3"]:
        return normalize_scale(points, mask, per_view=frame == "local")

    predicted = getattr(inputs.predicted, f"points_{frame}")
    assert predicted is not None, f"the student has no head for {frame} points"
    student = normalized(predicted)
    teacher = normalized(getattr(inputs.targets, f"points_{frame}"))
    error = (student - teacher).square().sum(-1)
    weighted_by = inputs.predicted if options.weighting == "student" else inputs.targets
    weight = getattr(weighted_by, f"confidence_{frame}")
    if options.weighting in ("released", "student"):
        weight = (weight / RELEASED_DIVISOR).clamp(*RELEASED_BOUNDS)
    if options.weighting != "none":
        error = error * torch.where(mask, weight, 0.0)
    return (mean_per_sample if options.reduction == "paper" else mean_per_view)(error, mask)


GLOBAL = LossTerm(
    label="global points",
    summary="Squared distance to the teacher's points in the anchor's frame, one scale a sample.",
    options=PointsOptions,
    build=lambda options: partial(points_error, frame="global", options=options),
)
LOCAL = LossTerm(
    label="local points",
    summary="Squared distance to the teacher's points in each camera's frame, one scale a view.",
    options=PointsOptions,
    build=lambda options: partial(points_error, frame="local", options=options),
    local=True,
)
