"""Relative pose errors of all pairs of cameras, as the published evaluations compute them.

Published codes differ in what they call the relative pose of cameras i and j, so every form is
named; figures of different forms do not compare. With T camera-to-world poses: "vggt" and "fast3r"
use inv(T_i) T_j, "pi3" its inverse, and "da3" T_i inv(T_j) of poses that were first moved into
the frame of camera 0, where it mixes rotation and translation. Angles are in degrees; computed in
float64, as float32 poses can move an error into another bin.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.registration import rotation_angle

PoseForm = Literal["vggt", "fast3r", "pi3", "da3"]
AucForm = Literal["bins", "histc", "integral"]

_LINEAR = 1 - 1e-4  # Fast3R's arc cosine is linear beyond this cosine: errors below 0.8 are wrong
_TINY = 1e-15
_ONE_PLACE = 1e-12  # of the distance to the origin; equal centers leave less, by rounding


@dataclass(frozen=True)
class PairErrors:
    """Errors of the relative poses of all pairs i < j, in lexicographic order.

    Args:
        translation: Angle between the directions of the translations up to sign, degrees in
            [0, 90]: 90 where the true translation is zero, NaN where a predicted pose is.
    """

    rotation: Float[Tensor, " P"]  # degrees; NaN where a predicted pose is
    translation: Float[Tensor, " P"]

    @property
    def largest(self) -> Float[Tensor, " P"]:
        """The larger of the two errors of each pair."""
        return torch.maximum(self.rotation, self.translation)


def pair_errors(
    predicted: Float[Tensor, "N 4 4"],
    truth: Float[Tensor, "N 4 4"],
    *,
    form: PoseForm = "vggt",
    move_prediction: bool = True,
) -> PairErrors:
    """Compare the relative poses of all pairs of cameras.

    Args:
        predicted: `world_from_cam`, in any frame and unit.
        truth: The same cameras.
        move_prediction: Move the prediction, too, into the frame of camera 0 for the form "da3".
            SpatialBench leaves that to the code of the model: without it the errors depend on the
            frame of the prediction.
    """
    moved = form == "da3"
    mine = _relative(predicted, form, from_first=moved and move_prediction)
    true = _relative(truth, form, from_first=moved)
    rotation = rotation_angle(mine, true)
    if form == "fast3r":
        rotation = _linearized_angle(rotation)
    shifts = [poses[:, :3, 3] for poses in (mine, true)]
    found, wanted = (shift / (shift.norm(dim=-1, keepdim=True) + _TINY) for shift in shifts)
    # The direction of a translation that is zero up to rounding is none.
    wanted = torch.where(_no_translation(truth, true)[:, None], 0.0, wanted)
    sine_squared = (1 - (found * wanted).sum(-1).square()).clamp(min=_TINY)
    return PairErrors(rotation, torch.rad2deg(torch.acos((1 - sine_squared).sqrt())))


def pairs_without_baseline(truth: Float[Tensor, "N 4 4"], *, form: PoseForm = "vggt") -> int:
    """Number of pairs whose true translation is zero: each has failed, as in all published codes.

    Args:
        truth: True `world_from_cam`.
    """
    relative = _relative(truth, form, from_first=form == "da3")
    return int(_no_translation(truth, relative).sum())


def _relative(
    poses: Float[Tensor, "N 4 4"], form: PoseForm, *, from_first: bool
) -> Float[Tensor, "P 4 4"]:
    """Relative poses of all pairs i < j, in float64."""
    poses = _from_first(poses.double()) if from_first else poses.double()
    first, second = torch.triu_indices(len(poses), len(poses), offset=1)
    if form == "da3":
        return poses[first] @ invert_rigid(poses[second])
    if form == "pi3":
        first, second = second, first
    return invert_rigid(poses[first]) @ poses[second]


def _no_translation(
    poses: Float[Tensor, "N 4 4"], relative: Float[Tensor, "P 4 4"]
) -> Bool[Tensor, " P"]:
    farthest = poses[:, :3, 3].double().norm(dim=-1).max()
    return relative[:, :3, 3].norm(dim=-1) <= _ONE_PLACE * farthest


def share_below(errors: Float[Tensor, " P"], threshold: float) -> float:
    """Share of pairs whose error is below a threshold; NaN counts as a failed pair."""
    return int((errors < threshold).sum()) / len(errors)


def area_under_curve(
    errors: Float[Tensor, " P"], threshold: int, *, form: AucForm = "bins"
) -> float:
    """Area under the curve of the share of pairs below an error, 0 to 1.

    Args:
        errors: The larger error of each pair, degrees; NaN counts as a failed pair.
        threshold: Largest error, degrees.
        form: "bins" of one degree, the last one closed (VGGT, Pi3, DA3, SpatialBench); "histc",
            `threshold + 1` bins (Fast3R); or the exact "integral".
    """
    known = errors[errors <= threshold]  # not NaN
    if form == "integral":
        return float((1 - known / threshold).sum()) / len(errors)
    bins = threshold if form == "bins" else threshold + 1
    # The same edges as `numpy.histogram` and `torch.histc`: the last bin is closed.
    index = (known / threshold * bins).floor().long().clamp(max=bins - 1)
    counts = torch.bincount(index, minlength=bins).double()
    return float(counts.cumsum(0).mean()) / len(errors)


def _from_first(poses: Float[Tensor, "N 4 4"]) -> Float[Tensor, "N 4 4"]:
    return invert_rigid(poses[:1]) @ poses


def _linearized_angle(degrees: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Fast3R's angle of a rotation: its least value is 0.405 degrees."""
    cosine = torch.cos(torch.deg2rad(degrees))
    linear = math.acos(_LINEAR) - (cosine - _LINEAR) / math.sqrt(1 - _LINEAR**2)
    # Symmetric at the other end: beyond -_LINEAR.
    other = math.acos(-_LINEAR) - (cosine + _LINEAR) / math.sqrt(1 - _LINEAR**2)
    angle = torch.where(cosine >= _LINEAR, linear, torch.acos(cosine))
    return torch.rad2deg(torch.where(cosine <= -_LINEAR, other, angle))
