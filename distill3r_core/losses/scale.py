"""Term `scale`: how far the student's maps are from the size of the teacher's.

The point terms divide both sides by their mean distance to the origin, so they leave the student's
scale free. This term compares these mean distances and nothing else: the two kinds of terms share
no direction of the gradient, and a student of metric targets becomes metric. Where a student
predicts its size apart from its points (`PointMaps.log_size`), the gradient goes there alone.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from distill3r_core.geometry.scale import SMALLEST, mean_distance
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions

# Logarithm of a ratio from which the error grows linearly: a view that is far off, as all are at
# the start, must not drown the gradient of the shape.
LINEAR_FROM = 0.25


def scale_error(inputs: TermInputs) -> Float[Tensor, ""]:
    """Squared logarithm of the ratio of mean distances, and sum over the maps of the student.

    Local maps: one ratio per view, mean over the views of a sample that have a valid pixel.
    Global maps: one ratio per sample, of the views that have a place in a common frame. Then the
    mean over the samples. A relative error of the size costs as much as a relative error of all
    points of that size does in an unweighted point term.
    """
    targets, total = inputs.targets, None
    for frame in ("global", "local"):
        predicted = getattr(inputs.predicted, f"points_{frame}")
        if predicted is None:
            continue
        wanted = getattr(targets, f"points_{frame}")
        mask = targets.global_mask if frame == "global" else targets.valid_mask
        per_view = frame == "local"
        sizes = [mean_distance(points, mask, per_view=per_view) for points in (predicted, wanted)]
        mine, true = (size.clamp(min=SMALLEST).log() for size in sizes)
        if (said := inputs.predicted.log_size) is not None:
            said = said if per_view else said[:, :1]  # view 0's is that of all global maps
            mine = mine.detach() + (said - said.detach())
        known = mask.flatten(2).any(-1)  # (B, N)
        if not per_view:
            known = known.any(-1, keepdim=True)
        # Of one type: the backward pass of torch's function takes no two.
        error = 2 * functional.huber_loss(mine, true.to(mine), reduction="none", delta=LINEAR_FROM)
        count = known.sum(-1).clamp(min=1)
        error = (torch.where(known, error, 0.0).sum(-1) / count).mean()
        total = error if total is None else total + error
    assert total is not None, "the student has a head for points"
    return total


SCALE = LossTerm(
    label="scale",
    summary="Squared log ratio of the sizes of the student's and the teacher's maps.",
    build=lambda options: scale_error,
    options=TermOptions,
)
