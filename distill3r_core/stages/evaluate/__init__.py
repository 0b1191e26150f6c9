"""Stage `eval`: a student, the truth or a plane against ground truth."""

from distill3r_core.stages.evaluate.run import EvalSettings, evaluate

__all__ = ["EvalSettings", "evaluate"]
