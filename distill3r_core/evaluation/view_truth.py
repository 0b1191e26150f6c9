"""The truth of a sequence at the grid of a model, from views with depth, K and pose."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import ImageError
from distill3r_core.evaluation.truth import MILLIMETERS, MIN_POINTS, SourceView, Truth
from distill3r_core.geometry.cameras import place_intrinsics, unproject
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.io.images.fit import ImageFit, fit_for, fit_image, is_portrait
from distill3r_core.io.images.placed_masks import placed_mask
from distill3r_core.prediction import Predictor
from distill3r_core.report import Failure
from distill3r_core.types import PreparedView, View

# Brings the views of a sequence to a model's input size; all of one size.
PrepareViews = Callable[[Sequence[View]], Sequence[PreparedView]]


@dataclass(frozen=True)
class NamedView:
    """A view that is scored."""

    name: str
    view: View
    content: str  # hash of all that is read of it


def fit_views(views: Sequence[View], fit: ImageFit) -> list[PreparedView]:
    """Views at a student's input size, in the orientation of their majority."""
    sizes = [(view.image.shape[0], view.image.shape[1]) for view in views]
    portrait, fit = is_portrait(sizes), fit_for(sizes, fit)
    prepared = []
    for view in views:
        fitted = fit_image(view.image, fit, portrait=portrait)
        image = torch.from_numpy(fitted.image).movedim(-1, 0).contiguous().float() / 255
        prepared.append(PreparedView(image, fitted.placement, sample=view.sample, index=view.index))
    return prepared


def prepare_views(views: Sequence[View], model: Predictor) -> list[PreparedView]:
    """Views as a model takes them.

    Raises:
        ImageError: They are of several sizes there.
    """
    prepared = [model.prepare(view) for view in views]
    sizes = sorted({view.placement.size for view in prepared})
    if len(sizes) > 1:
        raise ImageError(
            f"{views[0].sample}: images of several shapes ({sizes[0]} and {sizes[1]} for "
            f"{model.name}) have no common grid"
        )
    return prepared


def check_view(view: View, *, needs_depth: bool = True) -> None:
    """Refuse a view that has nothing to be scored against.

    Args:
        needs_depth: Whether depth is compared; otherwise poses alone are.

    Raises:
        ImageError: The reason alone.
    """
    if needs_depth and view.depth is None:
        raise ImageError("no depth: there is nothing to score against")
    if view.intrinsics is None:
        raise ImageError("no calibrated intrinsics: there is nothing to score against")


def truth_of(
    name: str,
    world: str,
    frames: Sequence[NamedView],
    prepare: PrepareViews,
    *,
    needs_depth: bool = True,
) -> tuple[Truth | None, list[Failure]]:
    """A sequence's truth at the grid, and the views that are left out.

    A view without a pose is left out where others of its sequence have one: pairs without it
    would be pairs of another set of views.

    Args:
        needs_depth: Whether a view without enough valid depth is left out; otherwise it stays,
            with fewer valid pixels or none.

    Returns:
        The truth; None where no view is left.
    """
    prepared = prepare(
        [replace(frame.view, sample=name, index=index) for index, frame in enumerate(frames)]
    )
    posed = any(frame.view.world_from_cam is not None for frame in frames)
    views, failed = [], []
    for frame, view in zip(frames, prepared, strict=True):
        true = _view_truth(frame, view)
        if needs_depth and int(true.mask.sum()) < MIN_POINTS:
            failed.append(Failure(f"{name}/{frame.name}", "no valid depth on the model's grid"))
        elif posed and true.pose is None:
            failed.append(Failure(f"{name}/{frame.name}", "no pose, which others have"))
        else:
            views.append(true)
    if not views:
        return None, failed
    poses = [view.pose for view in views if view.pose is not None]
    stacked = torch.stack(poses) if poses else None
    truth = Truth(
        name=name,
        world=world,
        view_names=tuple(view.name for view in views),
        views=tuple(replace(view.prepared, index=index) for index, view in enumerate(views)),
        points=torch.stack([view.points for view in views]),
        mask=torch.stack([view.mask for view in views]),
        intrinsics=torch.stack([view.intrinsics for view in views]),
        poses=stacked,
        unit="none" if any(frame.view.unit == "none" for frame in frames) else "m",
        contents=tuple(view.content for view in views),
        world_poses=stacked,
        sources=tuple(SourceView(view.source, view.prepared.placement) for view in views),
    )
    return truth, failed


@dataclass(frozen=True)
class _ViewTruth:
    name: str
    prepared: PreparedView
    points: Float[Tensor, "H W 3"]
    mask: Bool[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]
    pose: Float[Tensor, "4 4"] | None
    content: str
    source: View


def _view_truth(frame: NamedView, prepared: PreparedView) -> _ViewTruth:
    """A view's depth at the grid of its prepared image (nearest), in meters where known."""
    placement, view = prepared.placement, frame.view
    assert view.intrinsics is not None, "checked as it was read"
    per_meter = MILLIMETERS if view.unit == "mm" else 1.0
    if view.depth is None:  # no pixel is valid
        depth = torch.zeros(placement.size)
    elif placement.transposed:
        left, top, right, bottom = placement.box
        depth = torch.from_numpy(view.depth).float().T / per_meter
        depth = resample_nearest(depth, (top, left, bottom, right), placement.size)
    else:
        depth = torch.from_numpy(view.depth).float() / per_meter
        depth = resample_nearest(depth, placement.box, placement.size)
    intrinsics = place_intrinsics(torch.from_numpy(view.intrinsics), placement).float()
    mask = depth > 0
    if view.mask is not None:
        mask &= placed_mask(view.mask, placement)
    pose = None
    if view.world_from_cam is not None:
        pose = torch.from_numpy(view.world_from_cam).double().clone()
        pose[:3, 3] /= per_meter
    return _ViewTruth(
        name=frame.name,
        prepared=prepared,
        points=unproject(depth, intrinsics),
        mask=mask,
        intrinsics=intrinsics,
        pose=pose,
        content=frame.content,
        source=replace(view, depth=None),
    )
