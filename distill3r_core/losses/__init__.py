"""The training objective and its terms."""

from distill3r_core.losses.distillation import DistillationLoss
from distill3r_core.losses.objective import LossSettings, LossTerms, Objective

__all__ = ["DistillationLoss", "LossSettings", "LossTerms", "Objective"]
