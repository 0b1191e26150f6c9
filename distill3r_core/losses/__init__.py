"""What a student is trained by."""

from distill3r_core.losses.distillation import DistillationLoss, LossTerms

__all__ = ["DistillationLoss", "LossTerms"]
