"""Term `pose`: the poses that the student's two maps imply, beside the teacher's.

A view's pose is the similarity that carries the student's local map onto its global one, as `infer`
reads it. Squared distances of points hardly see a rotation of a few degrees that the translation
makes up for; the rotation and translation terms here are not squared, so their gradient does not
vanish there.
"""

from dataclasses import replace
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from distill3r_core.config import STRICT
from distill3r_core.geometry.scale import SMALLEST, mean_distance
from distill3r_core.geometry.similarity import scale_of
from distill3r_core.losses.loss_term import LossTerm, TermInputs, TermOptions
from distill3r_core.losses.procrustes import fit_with_gradient

Factor = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PoseOptions(TermOptions):
    """Options of the pose term: factors of its parts.

    Args:
        rotation: Of the Frobenius norm of the difference of two rotations, about 1.41 times the
            angle in radians.
        translation: Of the distance of two camera centers, each in units of its side's mean
            distance of global points.
        scale: Of the squared difference of logarithms of scales, between maps that are divided by
            their mean distances: the scale of a map by itself is free.
    """

    rotation: Factor = 0.3
    translation: Factor = 0.5
    scale: Factor = 0.5


def pose_error(inputs: TermInputs, *, options: PoseOptions) -> Float[Tensor, ""]:
    """Mean over the views of a sample whose points fix a pose on both sides, then over samples.

    Views without a place in the anchor's frame have no pose.
    """
    predicted, targets, mask = inputs.predicted, inputs.targets, inputs.targets.global_mask
    assert predicted.points_local is not None and predicted.points_global is not None, (
        "the student has both heads"
    )
    local, whole = predicted.points_local, predicted.points_global
    found = fit_with_gradient(local.flatten(2, 3), whole.flatten(2, 3), mask.flatten(2))
    true = targets.global_from_local.double()
    true_scale = scale_of(true)
    own = replace(inputs.targets, stored_points_global=None)
    (near, far), (true_near, true_far) = (
        [
            mean_distance(points, mask, per_view=per_view).double().clamp(min=SMALLEST)
            for points, per_view in zip(maps, (True, False), strict=True)
        ]
        for maps in ((local, whole), (own.points_local, own.points_global))
    )
    rotation = (found.rotation - true[..., :3] / true_scale[..., None, None]).norm(dim=(-2, -1))
    offset = found.offset / far[..., None] - true[..., 3] / true_far[..., None]
    growth = (found.scale * near / far).log() - (true_scale * true_near / true_far).log()
    error = (
        options.rotation * rotation
        + options.translation * offset.norm(dim=-1)
        + options.scale * growth.square()
    )
    count = found.determined.sum(-1).clamp(min=1)
    return (torch.where(found.determined, error, 0.0).sum(-1) / count).mean().to(local.dtype)


POSE = LossTerm(
    label="pose",
    summary="Rotation, translation and scale between the student's two maps, beside the teacher's.",
    options=PoseOptions,
    build=lambda options: partial(pose_error, options=options),
    local=True,
)
