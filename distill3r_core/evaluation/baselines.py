"""Baselines: predictions that need no model. A figure below them shows nothing.

A baseline is a record in `BASELINES`; every evaluation scores all of them beside the models.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from distill3r_core.evaluation.baseline_depth import constant_depth
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.training_frames import TrainingFrames
from distill3r_core.evaluation.truth import Truth
from distill3r_core.registry import Registry
from distill3r_core.types import RawMaps


@runtime_checkable
class BaselinePrediction(Protocol):
    """Predicts a sequence without a model."""

    def __call__(self, truth: Truth, training: TrainingFrames | None) -> RawMaps | None:
        """Predict the maps of a sequence.

        Args:
            truth: The sequence; its images, its cameras' intrinsics and poses may be used.
            training: The training frames of the run that is evaluated; None: there is no run.

        Returns:
            The maps; None where the baseline has nothing to predict from.
        """
        ...


@dataclass(frozen=True)
class Baseline:
    """A prediction that needs no model."""

    title: str
    predict: BaselinePrediction
    needs_run: bool = False  # it is made of the training frames of a run


def predict_constant_depth(truth: Truth, training: TrainingFrames | None = None) -> RawMaps:
    """A plane in front of every camera."""
    return maps_of(constant_depth(truth.intrinsics, truth.size), truth)


def _mean_depth(truth: Truth, training: TrainingFrames | None) -> RawMaps | None:
    points = None if training is None else training.mean_points(truth)
    return None if points is None else maps_of(points, truth)


def _nearest_frame(truth: Truth, training: TrainingFrames | None) -> RawMaps | None:
    points = None if training is None else training.nearest_points(truth)
    return None if points is None else maps_of(points, truth)


BASELINES: Registry[Baseline] = Registry("baseline")
BASELINES.add("constant_depth", Baseline("constant depth", predict_constant_depth))
BASELINES.add(
    "mean_depth", Baseline("mean depth map of the training frames", _mean_depth, needs_run=True)
)
BASELINES.add(
    "nearest_frame", Baseline("map of the nearest training frame", _nearest_frame, needs_run=True)
)
