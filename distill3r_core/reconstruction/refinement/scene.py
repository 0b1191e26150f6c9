"""Refine the poses of a scene by what its model gives: `infer` and `eval` alike."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.models import Student
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.prediction.forward_pass import image_tensor
from distill3r_core.reconstruction.reconstruction import PosedView
from distill3r_core.reconstruction.refinement.pair_graph import ALL_PAIRS_UP_TO
from distill3r_core.reconstruction.refinement.refine import LastStep
from distill3r_core.reconstruction.refinement.summary import RefinementSummary
from distill3r_core.reconstruction.refinement.views import refine_views
from distill3r_core.report import Progress, Silent


def refine_scene(
    views: Sequence[PosedView],
    loaded: Sequence[LoadedView],
    student: Student | None,
    *,
    until: LastStep = "joint",
    progress: Progress = Silent(),
) -> tuple[tuple[PosedView, ...], RefinementSummary]:
    """Views with refined poses, on the student's device.

    Args:
        views: With local maps, from `solve_cameras`.
        loaded: What the model saw, those without a camera included.
        student: Whose encoder describes the images of many views; None: another model, whose
            images are compared by thumbnails, on the CPU.
        until: See `refine_poses`.
    """
    features, device = None, torch.device("cpu")
    if student is not None:
        # Small systems are solved in float64, which Apple's GPUs do not have.
        device = device if student.device.type == "mps" else student.device
        if len(views) == len(loaded) > ALL_PAIRS_UP_TO:
            features = _appearance(student, loaded)
    return refine_views(views, features=features, device=device, until=until, progress=progress)


def _appearance(student: Student, views: Sequence[LoadedView]) -> Float[Tensor, "N D"] | None:
    """A description of each image: the mean of its tokens before views see each other."""
    found = []
    with torch.no_grad():
        for view in views:
            tokens = student.image_features(image_tensor(view)[None].to(student.device))
            if tokens is None:
                return None
            found.append(tokens[0].mean(0).float())
    return torch.stack(found)
