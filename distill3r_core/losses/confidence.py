"""Term `confidence`: distance of the student's confidences to the teacher's.

Equation (6) of Distill3R (arXiv:2602.00865).
"""

from functools import partial

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor

from distill3r_core.config import STRICT
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions
from distill3r_core.losses.reduction import Reduction, mean_per_pixel, mean_per_sample
from distill3r_core.types import ConfidenceMap, Mask


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ConfidenceOptions(TermOptions):
    """Options of the confidence term.

    Args:
        reduction: How pixels become one number. `paper`: the mean over the valid pixels of a
            sample, then over the samples. `released`: the mean over all valid pixels.
    """

    reduction: Reduction = "paper"


def confidence_error(inputs: TermInputs, *, options: ConfidenceOptions) -> Float[Tensor, ""]:
    """Mean absolute difference, and mean over the maps that the student predicts."""
    targets = inputs.targets

    def difference(student: ConfidenceMap, teacher: ConfidenceMap, mask: Mask) -> ConfidenceMap:
        # Each is selected on its own: inf - inf is NaN, and its gradient too.
        return (torch.where(mask, student, 0.0) - torch.where(mask, teacher, 0.0)).abs()

    both = [
        (getattr(inputs.predicted, name), getattr(targets, name), mask)
        for name, mask in (
            ("confidence_global", targets.global_mask),
            ("confidence_local", targets.valid_mask),
        )
    ]
    first, *others = [difference(*pair) for pair in both if pair[0] is not None]
    error = sum(others, start=first) / (1 + len(others))
    return (mean_per_sample if options.reduction == "paper" else mean_per_pixel)(
        error, targets.valid_mask
    )


CONFIDENCE = LossTerm(
    label="confidence",
    summary="Absolute difference to the teacher's confidences, mean of both maps.",
    options=ConfidenceOptions,
    build=lambda options: partial(confidence_error, options=options),
)
