"""The distillation loss of Distill3R (arXiv:2602.00865, equations 1 to 6) on its own."""

from distill3r_core.losses.objective import LossSettings, Objective
from distill3r_core.losses.points import Weighting
from distill3r_core.losses.reduction import Reduction


class DistillationLoss(Objective):
    """The objective of the paper: the terms `points_global`, `points_local` and `confidence`.

    A view or a sample without a valid pixel adds zero. With the reduction `paper` the loss of a
    batch is the mean of the losses of its samples; with `released` only for equal masks.

    Two readings of it exist, the paper's and the released code's. Both are here by name, and so are
    the variants of the paper's Table III.

    Args:
        alpha_global: Weight of the global points; 0 leaves the term out, as with the others.
        weighting: What the squared distances are multiplied by, see `PointsOptions`.
        reduction: How pixels become one number, see `PointsOptions` and `ConfidenceOptions`.
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
        settings = LossSettings(alpha_global, alpha_local, gamma, weighting, reduction)
        super().__init__(settings.all_terms)
