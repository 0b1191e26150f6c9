"""Refine the poses of a reconstruction's views."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.reconstruction.cameras.moved_views import moved_views
from distill3r_core.reconstruction.reconstruction import PosedView
from distill3r_core.reconstruction.refinement.refine import LastStep, Refinement, refine_poses
from distill3r_core.reconstruction.refinement.summary import RefinementSummary
from distill3r_core.reconstruction.view_maps import confident_pixels, finite_pixels
from distill3r_core.report import Progress, Silent

_OF_POINTS = "points"  # focal lengths that are a view's own estimate


def refine_views(
    views: Sequence[PosedView],
    *,
    features: Float[Tensor, "N D"] | None = None,
    device: torch.device | None = None,
    until: LastStep = "joint",
    progress: Progress = Silent(),
) -> tuple[tuple[PosedView, ...], RefinementSummary]:
    """Views with refined poses and scales; the first one's pose is the identity again.

    Global points of a view follow its pose. Focal lengths and local maps stay as they are.

    Args:
        views: With local maps.
        features: See `refine_poses`.
        device: Where to compute; None: the CPU.
        until: See `refine_poses`.
    """
    if len(views) < 2:
        return tuple(views), RefinementSummary("a single view")
    size = tuple(max(view.loaded.fitted.placement.size[axis] for view in views) for axis in (0, 1))
    images = torch.zeros(len(views), 3, *size)
    points = torch.zeros(len(views), *size, 3)
    mask = torch.zeros(len(views), *size, dtype=torch.bool)
    similarities = []
    for index, view in enumerate(views):
        assert view.aligned is not None, "only views with local maps can be refined"
        local = view.aligned.local_map
        rows, columns = local.confidence.shape
        pixels = torch.from_numpy(np.ascontiguousarray(view.loaded.fitted.image))
        images[index, :, :rows, :columns] = pixels.movedim(-1, 0) / 255
        points[index, :rows, :columns] = torch.from_numpy(np.nan_to_num(local.points))
        counted = finite_pixels(local)
        if counted.any():
            counted &= confident_pixels(local)
        if view.loaded.mask is not None:
            counted &= view.loaded.mask
        mask[index, :rows, :columns] = torch.from_numpy(counted)
        similarities.append(torch.from_numpy(view.aligned.world_from_local))
    device = device or torch.device("cpu")
    found = refine_poses(
        images.to(device),
        points.to(device),
        torch.stack(similarities).to(device),
        valid_mask=mask.to(device),
        intrinsics=_intrinsics(views).to(device),
        fixed_focal=any(view.camera.facts["focal_source"] != _OF_POINTS for view in views),
        features=None if features is None else features.to(device),
        until=until,
        progress=progress,
    )
    return moved_views(views, found.world_from_local.cpu()), _summary(found)


def _intrinsics(views: Sequence[PosedView]) -> Float[Tensor, "N 3 3"]:
    """K in pixels of the maps; of estimates the median share of the long edge, as of one camera."""
    shares = [view.camera.intrinsics[0, 0] / max(view.camera.size) for view in views]
    shared = float(np.median(shares))
    found = []
    for view in views:
        K = view.camera.intrinsics.copy()
        if view.camera.facts["focal_source"] == _OF_POINTS:
            K[0, 0] = K[1, 1] = shared * max(view.camera.size)
        found.append(place_intrinsics(torch.from_numpy(K), view.loaded.fitted.placement))
    return torch.stack(found).float()


def _summary(found: Refinement) -> RefinementSummary:
    known = found.residual[~found.residual.isnan()]
    return RefinementSummary(
        aligned=found.aligned.tolist(),
        groups=len(found.group[found.aligned].unique()),
        pairs=len(found.pairs),
        accepted=int(found.accepted.sum()),
        contradicted=int(found.contradicted.sum()),
        residual=float(known.median()) if len(known) else None,
        residuals=_or_none(found.residual),
        agreements=_or_none(found.agreement),
        focal_factor=found.focal_factor,
        seconds=found.seconds,
        first_pose=rigid_of(found.world_from_local[0].double().cpu()).numpy(),
    )


def _or_none(values: Float[Tensor, " N"]) -> list[float | None]:
    """The values, None for NaN."""
    return [None if value != value else value for value in values.tolist()]
