"""The distillation loss of Distill3R (arXiv:2602.00865, equations 1 to 6).

Two readings of it exist, the paper's and the released code's; both are here by name, and so are
the variants of the paper's Table III, as arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill3r_core.geometry.scale import normalize_scale
from distill3r_core.types import ConfidenceMap, Mask, PointMaps, TeacherTargets

Weighting = Literal["paper", "released", "none", "student"]
Reduction = Literal["paper", "released"]

# The released code divides the confidence by ten and keeps the weight within these bounds.
RELEASED_DIVISOR = 10.0
RELEASED_BOUNDS = (0.1, 1.0)


@dataclass(frozen=True)
class LossTerms:
    """The loss and its parts, each with its factor already applied: the parts sum to `total`."""

    total: Float[Tensor, ""]
    points_global: Float[Tensor, ""]
    points_local: Float[Tensor, ""]
    confidence: Float[Tensor, ""]


class DistillationLoss(nn.Module):
    """Scale-free squared distance to the teacher's points, and L1 distance to its confidence.

    Points are divided by their mean distance to the origin, on both sides and with gradient: per
    sample in the global frame (equation 4; the paper's "batch" is one sample's N views), per view
    in the local frames (equation 5). Pixels are selected before anything is multiplied: what
    stands outside the mask, NaN included, changes neither the loss nor a gradient.

    Args:
        alpha_global: Weight of the global points.
        alpha_local: Weight of the local points.
        gamma: Weight of the confidences; 0 leaves the term out.
        weighting: What the squared distances are multiplied by. `paper`: the teacher's cached
            confidence. `released`: a tenth of it, within [0.1, 1]. `none`: one. `student`: as
            `released`, but of the student's own confidence, with gradient.
        reduction: How pixels become one number. `paper`: the mean over a sample's valid pixels,
            then over the samples. `released`: the mean over the valid pixels of one view of all
            samples, then over the views; confidences over all valid pixels.
    """

    def __init__(
        self,
        *,
        alpha_global: float = 2.0,
        alpha_local: float = 1.0,
        gamma: float = 0.001,
        weighting: Weighting = "paper",
        reduction: Reduction = "paper",
    ) -> None:
        super().__init__()
        self.alpha_global, self.alpha_local, self.gamma = alpha_global, alpha_local, gamma
        self.weighting: Weighting = weighting
        self.reduction: Reduction = reduction

    def forward(self, predicted: PointMaps, targets: TeacherTargets) -> LossTerms:
        """The loss of a batch, all tensors with leading axes (B, N).

        A view or a sample without a valid pixel adds zero. With the reduction `paper` the loss of
        a batch is the mean of the losses of its samples; with `released` only for equal masks.
        """
        mask = targets.valid_mask
        geometric, pooled = _REDUCTIONS[self.reduction]

        def term(side: Literal["global", "local"]) -> Float[Tensor, ""]:
            points = getattr(predicted, f"points_{side}")
            wanted = getattr(targets, f"points_{side}")
            per_view = side == "local"
            error = (
                (
                    normalize_scale(points, mask, per_view=per_view)
                    - normalize_scale(wanted, mask, per_view=per_view)
                )
                .square()
                .sum(-1)
            )
            weight = self._weight(
                getattr(targets, f"confidence_{side}"), getattr(predicted, f"confidence_{side}")
            )
            if weight is not None:
                error = error * torch.where(mask, weight, 0.0)
            return geometric(error, mask)

        points_global = self.alpha_global * term("global")
        points_local = self.alpha_local * term("local")
        confidence = torch.zeros_like(points_global)
        if self.gamma:  # 0 times the infinity of a confidence that nothing holds would be NaN
            confidence = self.gamma * pooled(_confidence_error(predicted, targets), mask)
        total = points_global + points_local + confidence
        return LossTerms(total, points_global, points_local, confidence)

    def _weight(self, teacher: ConfidenceMap, student: ConfidenceMap) -> ConfidenceMap | None:
        if self.weighting == "none":
            return None
        if self.weighting == "paper":
            return teacher
        chosen = student if self.weighting == "student" else teacher
        return (chosen / RELEASED_DIVISOR).clamp(*RELEASED_BOUNDS)


def _confidence_error(predicted: PointMaps, targets: TeacherTargets) -> ConfidenceMap:
    """Equation (6) before its mean: half the sum of both heads' absolute differences."""
    mask = targets.valid_mask

    def error(mine: ConfidenceMap, wanted: ConfidenceMap) -> ConfidenceMap:
        # Each side is selected on its own: inf - inf is NaN, and its gradient too.
        return (torch.where(mask, mine, 0.0) - torch.where(mask, wanted, 0.0)).abs()

    return 0.5 * (
        error(predicted.confidence_global, targets.confidence_global)
        + error(predicted.confidence_local, targets.confidence_local)
    )


def _per_sample(error: Float[Tensor, "B N H W"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over each sample's valid pixels, then over the samples. `error` is zero elsewhere."""
    count = mask.sum((1, 2, 3)).clamp(min=1)
    return (error.sum((1, 2, 3)) / count).mean()


def _per_view(error: Float[Tensor, "B N H W"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over the valid pixels of a view of all samples, then over the views."""
    count = mask.sum((0, 2, 3)).clamp(min=1)
    return (error.sum((0, 2, 3)) / count).mean()


def _over_all(error: Float[Tensor, "B N H W"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over all valid pixels."""
    return error.sum() / mask.sum().clamp(min=1)


Reduce = Callable[[Float[Tensor, "B N H W"], Mask], Float[Tensor, ""]]
# Of the squared distances, and of the confidences' differences.
_REDUCTIONS: dict[Reduction, tuple[Reduce, Reduce]] = {
    "paper": (_per_sample, _per_sample),
    "released": (_per_view, _over_all),
}
