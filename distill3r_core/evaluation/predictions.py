"""What can be scored, behind one signature: a model, the truth itself, or a baseline."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import OutOfMemoryError
from distill3r_core.evaluation.predicted_poses import with_similarities
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.similarity import apply_similarity
from distill3r_core.prediction import Predictor
from distill3r_core.profiling import AllocationError, memory_limits
from distill3r_core.reconstruction.prediction.scene_pass import knows_scene, scene_raw_maps
from distill3r_core.runs.student_file import StudentFile
from distill3r_core.types import PointMaps, RawMaps, ViewsInScene

Placed = TypeVar("Placed")
# Maps of all views of a sequence; None where there is nothing to predict from. What is not a
# model may read the truth's cameras.
Prediction = Callable[[Truth], RawMaps | None]


@dataclass(frozen=True)
class Unpredicted:
    """Why there is nothing to predict a sequence from, for people."""

    reason: str


@dataclass(frozen=True)
class Unscaled(Generic[Placed]):
    """Maps, or their places alone, where lengths of maps and those of poses have no common unit.

    Args:
        placed: Similarities among it are `[R | t]`.
        reason: Why there is no common unit, for people.
    """

    placed: Placed
    reason: str


def predict_with(model: Predictor, *, device: torch.device) -> Prediction:
    """A model as what is scored."""

    return predict_in_memory(lambda truth: with_similarities(model.predict(truth.views)), device)


def predict_with_student(file: StudentFile) -> Prediction:
    """A student as what is scored; both heads are run, for its poses come from the two.

    Poses of a scene student are PnP's on its coordinates, with the truth's calibrated K.
    """

    def predict(truth: Truth) -> RawMaps:
        images = torch.stack([view.image for view in truth.views])[None].to(file.device)
        with _memory_of(file.device, truth), torch.inference_mode():
            found = file.student(images, host=True)
        assert isinstance(found, PointMaps)
        if knows_scene(file.student):
            return scene_raw_maps(file.student, found, truth.intrinsics, world=truth.world)
        world, local = found.both
        return with_similarities(
            RawMaps(
                points_local=list(local.points[0]),
                confidence_local=list(local.confidence[0]),
                confidence_global=list(world.confidence[0]),
                points_global=list(world.points[0]),
            )
        )

    return predict


def predict_in_memory(predict: Callable[[Truth], RawMaps], device: torch.device) -> Prediction:
    """A prediction that names the sequence whose views do not fit into the memory of a device."""

    def predicted(truth: Truth) -> RawMaps:
        with _memory_of(device, truth):
            return predict(truth)

    return predicted


@contextmanager
def _memory_of(device: torch.device, truth: Truth) -> Iterator[None]:
    try:
        with memory_limits():
            yield
    except AllocationError as error:
        raise OutOfMemoryError(
            f"{truth.name}: {len(truth.views)} views do not fit into the memory of {device}",
            hint="--device cpu uses the machine's memory",
        ) from error


def predict_truth(truth: Truth) -> RawMaps:
    """The truth itself: errors of 0, a scale of 1."""
    maps = replace(maps_of(truth.points, truth), global_from_local=truth.global_from_local)
    return maps if truth.world_poses is None else in_world(maps, truth.world_poses)


def in_world(maps: RawMaps, poses: Float[Tensor, "N 4 4"]) -> RawMaps:
    """Maps with the place of their views in the truth's world.

    Args:
        poses: `world_from_cam`, in the unit of the local points.
    """
    points = [
        apply_similarity(pose[:3].double(), local.double())
        for pose, local in zip(poses, maps.points_local, strict=True)
    ]
    return replace(maps, scene=ViewsInScene(points, poses))


def maps_of(
    points: Float[Tensor, "N H W 3"],
    truth: Truth,
    *,
    poses: Float[Tensor, "N 4 4"] | None = None,
) -> RawMaps:
    """Maps of one confidence from points.

    Args:
        points: In each camera's frame.
        poses: `world_from_cam` of each camera, in the unit of the points; None: not predicted.
    """
    confidence = torch.ones(points.shape[:3])
    similarity = None
    if poses is not None:
        similarity = (invert_rigid(poses[:1]) @ poses)[:, :3]
    return RawMaps(
        points_local=list(points),
        confidence_local=list(confidence),
        confidence_global=list(confidence),
        global_from_local=similarity,
        intrinsics=truth.intrinsics,
    )
