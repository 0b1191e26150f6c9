"""Stage `train`: a student learns what a teacher cache says."""

from distill3r_core.stages.train.resolve import train_settings
from distill3r_core.stages.train.train_run import TrainSettings, default_preset, train

__all__ = ["TrainSettings", "default_preset", "train", "train_settings"]
