"""Stage `infer`: pictures become a reconstruction, in memory and on the disk."""

from distill3r_core.stages.infer.run import InferSettings, infer

__all__ = ["InferSettings", "infer"]
