"""Stage `infer`: images become a reconstruction, in memory and on the disk."""

from distill3r_core.stages.infer.infer_scenes import infer
from distill3r_core.stages.infer.settings import InferSettings

__all__ = ["InferSettings", "infer"]
