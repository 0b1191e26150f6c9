"""Trajectory errors (ATE, RPE) after the best similarity between camera centers.

ATE and RPE as in Sturm et al., IROS 2012, and Zhang and Scaramuzza, IROS 2018. Published codes
reduce the errors of frames differently: CUT3R and Pi3 print root mean squares, SpatialBench the
root mean square of the absolute errors and the mean of the relative ones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.registration import rotation_angle
from distill3r_core.geometry.similarity import fit_similarity

_MIN_VARIANCE = 1e-10  # of predicted centers, where no similarity is determined


@dataclass(frozen=True)
class TrajectoryErrors:
    """Errors of a trajectory after the alignment; NaN where a predicted pose is not finite.

    Args:
        absolute: Distance of each camera center to its true one, in the truth's unit.
        relative_translation: Length of the translation that remains between the predicted and the
            true motion of consecutive frames, in the truth's unit.
        relative_rotation: Angle that remains, degrees.
    """

    absolute: Float[Tensor, " N"]
    relative_translation: Float[Tensor, " M"]  # M = N - 1
    relative_rotation: Float[Tensor, " M"]


def trajectory_errors(
    predicted: Float[Tensor, "N 4 4"], truth: Float[Tensor, "N 4 4"], *, strict: bool = False
) -> TrajectoryErrors:
    """Align predicted cameras to the true ones by their centers, and compare frame by frame.

    Args:
        predicted: `world_from_cam` in any frame and unit, in the order of the frames.
        truth: The same cameras.
        strict: Raise where the centers do not fix a similarity, as evo does. Otherwise centers at
            one place or on a line are aligned as far as they can be (the free turn about the line
            changes no error), and one pose that is not finite makes all errors NaN.

    Raises:
        GeometryError: With `strict`, centers that do not fix a similarity or are not finite.
    """
    poses, true = predicted.double(), truth.double()
    if not strict and not poses.isfinite().all():
        frames = torch.full((len(poses),), torch.nan, dtype=torch.float64)
        return TrajectoryErrors(frames, frames[1:], frames[1:])
    rotation, scale, offset = _fit_centers(poses[:, :3, 3], true[:, :3, 3], strict=strict)
    aligned = poses.clone()
    aligned[:, :3, :3] = rotation @ poses[:, :3, :3]
    aligned[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.mT + offset
    motion, true_motion = (invert_rigid(cameras[:-1]) @ cameras[1:] for cameras in (aligned, true))
    left = invert_rigid(true_motion) @ motion
    return TrajectoryErrors(
        absolute=(aligned[:, :3, 3] - true[:, :3, 3]).norm(dim=-1),
        relative_translation=left[:, :3, 3].norm(dim=-1),
        relative_rotation=rotation_angle(true_motion, motion),
    )


def root_mean_square(errors: Float[Tensor, " N"]) -> float:
    """Square root of the mean of the squares; NaN where there are no errors or one is NaN."""
    return float(errors.square().mean().sqrt())


def _fit_centers(
    source: Float[Tensor, "N 3"], target: Float[Tensor, "N 3"], *, strict: bool
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, ""], Float[Tensor, " 3"]]:
    """Rotation, scale and offset of the similarity; see `trajectory_errors`."""
    try:
        similarity = fit_similarity(source, target)
    except GeometryError:
        if strict:
            raise
    else:
        scale = torch.linalg.det(similarity[:, :3]).pow(1 / 3)
        return similarity[:, :3] / scale, scale, similarity[:, 3]
    x, y = source - source.mean(0), target - target.mean(0)
    u, sizes, v_t = torch.linalg.svd(y.mT @ x / len(x))
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.det(u @ v_t).sign()
    rotation = (u * sign) @ v_t
    scale = (sizes * sign).sum() / x.square().sum(-1).mean().clamp(min=_MIN_VARIANCE)
    return rotation, scale, target.mean(0) - scale * rotation @ source.mean(0)
