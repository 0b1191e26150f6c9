"""Baselines: predictions that need no model. A figure below them shows nothing.

A baseline is a record in `BASELINES`; every evaluation scores all of them beside the models.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.baselines.baseline_depth import constant_depth
from distill3r_core.evaluation.baselines.colmap_poses import colmap_poses
from distill3r_core.evaluation.baselines.colmap_solver import ColmapSolver
from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
from distill3r_core.evaluation.predictions import (
    Unpredicted,
    Unscaled,
    in_world,
    maps_of,
)
from distill3r_core.evaluation.truth import Truth
from distill3r_core.registry import Registry
from distill3r_core.types import RawMaps


@runtime_checkable
class BaselinePrediction(Protocol):
    """Predicts a sequence without a model."""

    def __call__(
        self, truth: Truth, training: TrainingFrames | None
    ) -> RawMaps | Unscaled[RawMaps] | Unpredicted:
        """Predict the maps of a sequence.

        Args:
            truth: The sequence; its images, its cameras' intrinsics and poses may be used.
            training: The training frames of the run that is evaluated; None: there is no run.

        Returns:
            The maps; those whose unit is not that of their poses; or why the baseline has nothing
            to predict from.
        """
        ...


@runtime_checkable
class BaselinePoses(Protocol):
    """Places the views of a sequence without a model."""

    def __call__(
        self, truth: Truth, maps: RawMaps, colmap: ColmapSolver | None
    ) -> Float[Tensor, "N 3 4"] | Unscaled[Float[Tensor, "N 3 4"]] | Unpredicted:
        """Similarities that carry each view's map into one frame.

        Args:
            truth: The sequence; its images and intrinsics may be used.
            maps: The maps of the model that is scored, which are placed.
            colmap: Solves a sequence by COLMAP; None where that is left out.

        Returns:
            `[sR | t]` of each view, NaN where a view could not be placed; poses without the maps'
            scale; or why no view could be placed.
        """
        ...


@dataclass(frozen=True)
class Baseline:
    """A prediction that needs no model.

    Args:
        predict: Predicts the maps. None: the baseline has poses alone, and places the maps of the
            model beside it; only metrics of poses are scored.
        poses: Places maps; needed where `predict` is None.
    """

    title: str
    predict: BaselinePrediction | None = None
    needs_run: bool = False  # it is made of the training frames of a run
    poses: BaselinePoses | None = None
    needs_colmap: bool = False  # left out without pycolmap, and by --no-colmap


def predict_constant_depth(truth: Truth, training: TrainingFrames | None = None) -> RawMaps:
    """A plane in front of every camera."""
    return maps_of(constant_depth(truth.intrinsics, truth.size), truth)


def _mean_depth(truth: Truth, training: TrainingFrames | None) -> RawMaps | Unpredicted:
    points = None if training is None else training.mean_points(truth)
    if points is None:
        return Unpredicted("no training frame has depth")
    return maps_of(points, truth)


def _nearest_frame(
    truth: Truth, training: TrainingFrames | None
) -> RawMaps | Unscaled[RawMaps] | Unpredicted:
    found = None if training is None else training.nearest(truth)
    if found is None:
        return Unpredicted("its poses and those of training frames are in no common world")
    assert training is not None, "it has found frames"
    maps = in_world(maps_of(found[0], truth, poses=found[1]), found[1])
    if training.cache.metric:
        return maps
    return Unscaled(maps, "the teacher's maps have no unit, and poses are in meters")


def _identity_poses(
    truth: Truth, maps: RawMaps, colmap: ColmapSolver | None
) -> Float[Tensor, "N 3 4"]:
    """All cameras at one place, looking the same way."""
    return torch.eye(3, 4, dtype=torch.float64).repeat(len(maps.points_local), 1, 1)


BASELINES: Registry[Baseline] = Registry("baseline")
BASELINES.add("constant_depth", Baseline("constant depth", predict_constant_depth))
BASELINES.add("mean_depth", Baseline("mean depth map", _mean_depth, needs_run=True))
BASELINES.add("nearest_frame", Baseline("nearest frame", _nearest_frame, needs_run=True))
BASELINES.add("identity_poses", Baseline("identity poses", poses=_identity_poses))
BASELINES.add("colmap_poses", Baseline("COLMAP poses", poses=colmap_poses, needs_colmap=True))
