"""Term `regression`: distance of points that the student's own confidence weighs (DUSt3R's loss).

As arXiv:2607.01851 trains: Euclidean distances in the teacher's unit, not squared. The matching
loss that it adds is left out: descriptors are no output of students.
"""

from functools import partial
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from distill3r_core.config import STRICT
from distill3r_core.geometry.scale import normalize_scale
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions
from distill3r_core.types import ConfidenceMap, Mask


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RegressionOptions(TermOptions):
    """Options of `regression`.

    Args:
        confidence: Whose confidence weighs the distances: `student`, mean of
            `c l - penalty log c`; `teacher`, mean of `C l + penalty |c - C|`.
        penalty: Factor of the term that keeps the student's confidence.
        normalize: Divide both maps by their mean distance to the origin, for teachers whose scale
            is free. By the letter metric maps are not.
        local: Compare, beside the maps in the anchor's frame, the local maps of the other views:
            what the same network says of the pairs in the other order.
    """

    confidence: Literal["student", "teacher"] = "student"
    penalty: Annotated[float, Field(ge=0)] = 0.2
    normalize: bool = False
    local: bool = True


def regression_error(inputs: TermInputs, *, options: RegressionOptions) -> Float[Tensor, ""]:
    """Mean over a sample's valid pixels of the maps that are compared, then over the samples.

    Views without a place in the anchor's frame count in their local maps alone.
    """
    mask, predicted, targets = inputs.targets.valid_mask, inputs.predicted, inputs.targets
    placed = targets.global_mask
    global_map, local_map = predicted.both

    def compared(
        points: Tensor, wanted: Tensor, mask: Mask, *, per_view: bool
    ) -> Float[Tensor, "B N H W"]:
        if options.normalize:
            points, wanted = (
                normalize_scale(values, mask, per_view=per_view) for values in (points, wanted)
            )
        # A norm has no gradient at zero, where a pixel outside the mask would have it.
        difference = torch.where(mask[..., None], points - wanted, 1.0)
        return difference.norm(dim=-1)

    total, count = _sums(
        compared(global_map.points, targets.points_global, placed, per_view=False),
        global_map.confidence,
        targets.confidence_global,
        placed,
        options,
    )
    if options.local and mask.shape[1] > 1:
        distance = compared(local_map.points, targets.points_local, mask, per_view=True)
        more, others = _sums(
            distance[:, 1:],
            local_map.confidence[:, 1:],
            targets.confidence_local[:, 1:],
            mask[:, 1:],
            options,
        )
        total, count = total + more, count + others
    return (total / count.clamp(min=1)).mean()


def _sums(
    distance: Float[Tensor, "B N H W"],
    own: ConfidenceMap,
    cached: ConfidenceMap,
    mask: Mask,
    options: RegressionOptions,
) -> tuple[Float[Tensor, "B"], Int[Tensor, "B"]]:
    """Sum over the valid pixels of each sample's map, and their number."""
    own, cached = (torch.where(mask, values, 1.0) for values in (own, cached))
    if options.confidence == "student":
        error = own * distance - options.penalty * own.log()
    else:
        error = cached * distance + options.penalty * (own - cached).abs()
    return torch.where(mask, error, 0.0).sum((1, 2, 3)), mask.sum((1, 2, 3))


REGRESSION = LossTerm(
    label="regression",
    summary="Distance to the teacher's points, weighed by a confidence that costs its logarithm.",
    options=RegressionOptions,
    build=lambda options: partial(regression_error, options=options),
    local=True,
)
