"""Stage `eval`: models, the truth or a plane against ground truth."""

from distill3r_core.stages.evaluate.evaluate_models import evaluate
from distill3r_core.stages.evaluate.settings import EvalSettings

__all__ = ["EvalSettings", "evaluate"]
