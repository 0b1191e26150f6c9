"""The test frames of a data set as ground truth: its depth, at the grid of a model."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.data.conventions.check_data import DataCheck, check_data
from distill3r_core.data.conventions.readings import Conventions, with_conventions
from distill3r_core.data.frame_processing import Processed, Processing, process
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import LAYOUTS, detect_layout, frames_for_test
from distill3r_core.errors import ImageError
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.evaluation.truth import MILLIMETERS, MIN_POINTS, Truth
from distill3r_core.geometry.cameras import place_intrinsics, unproject
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.io.images.fit import ImageFit, fit_for, fit_image, is_portrait
from distill3r_core.io.images.masks import placed_mask
from distill3r_core.prediction import Predictor
from distill3r_core.report import Failure, Progress
from distill3r_core.types import PreparedView, View

# Brings the views of a sequence to a model's input size; all of one size.
PrepareViews = Callable[[Sequence[View]], Sequence[PreparedView]]


@dataclass(frozen=True)
class TestData:
    """The test part of a data set."""

    layout: str
    truths: tuple[Truth, ...]
    seen: int  # frames left out because the model was trained on them
    failed: tuple[Failure, ...]  # frames left out because they cannot be used
    check: DataCheck  # how well depth and poses fit together


def read_test_data(
    root: Path,
    *,
    layout: str,
    protocol: Protocol,
    processing: Processing,
    prepare: PrepareViews,
    trained_on: Collection[str],
    conventions: Conventions = Conventions(),
    trust: bool = False,
    checked: bool = False,
    progress: Progress,
) -> TestData:
    """The frames of a data set that a protocol scores.

    Args:
        processing: How frames were brought to their processed form for the model.
        prepare: How views become the model's input.
        trained_on: Hashes of images that are left out, and counted.
        conventions: Conventions that replace those of the layout.
        trust: Score against data whose parts contradict each other.
        checked: Whether they have been checked already.

    Raises:
        ContradictionError: Depth, poses, intrinsics and images do not fit together.
        InputMissingError: There is nothing at `root`.
    """
    layout = detect_layout(root)[0].name if layout == "auto" else layout
    sequences = {
        name: with_conventions(frames, conventions)
        for name, frames in frames_for_test(root, layout)
    }
    windows = protocol.frames(
        layout, {name: [frame.number for frame in frames] for name, frames in sequences.items()}
    )
    check = DataCheck()
    if not checked:
        used = {window.sequence: sequences[window.sequence] for window in windows}
        check = check_data(root.resolve().name, used, trust=trust, progress=progress)
    progress.begin("read", total=sum(len(window.frames) for window in windows), unit="frames")
    truths, failed, seen = [], [], 0
    for window in windows:
        kept: list[tuple[str, Processed]] = []
        for index in window.frames:
            frame = sequences[window.sequence][index]
            progress.advance()
            try:
                processed = process(read_source_frame(frame, trust=trust), processing)
                _check_truth(processed)
            except ImageError as error:
                failed.append(Failure(str(frame.image), str(error)))
                continue
            if processed.picture in trained_on:
                seen += 1
                continue
            kept.append((frame.name, processed))
        if kept:
            world = window.sequence
            if LAYOUTS[layout].shared_world:
                world = world.rpartition("/")[0]
            truth, unusable = _truth_of(window.name, world, kept, prepare)
            truths += truth
            failed += unusable
    return TestData(layout, tuple(truths), seen, tuple(failed), check)


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


def _check_truth(processed: Processed) -> None:
    if processed.depth is None:
        raise ImageError("no depth: there is nothing to score against")
    if processed.intrinsics_source != "calibrated":
        raise ImageError("no calibrated intrinsics: there is nothing to score against")


def _truth_of(
    name: str, world: str, frames: Sequence[tuple[str, Processed]], prepare: PrepareViews
) -> tuple[list[Truth], list[Failure]]:
    """A sequence's truth at the grid, in a list that is empty where no frame is left."""
    prepared = prepare(
        [
            View(
                image=processed.image,
                intrinsics=processed.intrinsics,
                depth=processed.depth,
                world_from_cam=processed.world_from_cam,
                unit=processed.unit,
                sample=name,
                index=index,
            )
            for index, (_, processed) in enumerate(frames)
        ]
    )
    views, failed = [], []
    for (view_name, processed), view in zip(frames, prepared, strict=True):
        true = _view_truth(view_name, processed, view)
        if int(true.mask.sum()) < MIN_POINTS:
            failed.append(Failure(f"{name}/{view_name}", "no valid depth on the student's grid"))
        else:
            views.append(true)
    if not views:
        return [], failed
    poses = [view.pose for view in views if view.pose is not None]
    truth = Truth(
        name=name,
        world=world,
        view_names=tuple(view.name for view in views),
        views=tuple(view.prepared for view in views),
        points=torch.stack([view.points for view in views]),
        mask=torch.stack([view.mask for view in views]),
        intrinsics=torch.stack([view.intrinsics for view in views]),
        poses=torch.stack(poses) if len(poses) == len(views) else None,
        unit="none" if any(processed.unit == "none" for _, processed in frames) else "m",
        contents=tuple(view.content for view in views),
    )
    return [truth], failed


@dataclass(frozen=True)
class _ViewTruth:
    name: str
    prepared: PreparedView
    points: Float[Tensor, "H W 3"]
    mask: Bool[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]
    pose: Float[Tensor, "4 4"] | None
    content: str


def _view_truth(name: str, processed: Processed, prepared: PreparedView) -> _ViewTruth:
    """A frame's depth at the grid of its prepared image (nearest), in meters where known."""
    placement = prepared.placement
    assert processed.depth is not None, "checked as it was read"
    per_meter = MILLIMETERS if processed.unit == "mm" else 1.0
    depth = torch.from_numpy(processed.depth).float() / per_meter
    if placement.transposed:
        left, top, right, bottom = placement.box
        depth = resample_nearest(depth.T, (top, left, bottom, right), placement.size)
    else:
        depth = resample_nearest(depth, placement.box, placement.size)
    intrinsics = place_intrinsics(torch.from_numpy(processed.intrinsics), placement).float()
    mask = depth > 0
    if processed.mask is not None:
        mask &= placed_mask(processed.mask, placement)
    pose = None
    if processed.world_from_cam is not None:
        pose = torch.from_numpy(processed.world_from_cam).double().clone()
        pose[:3, 3] /= per_meter
    return _ViewTruth(
        name=name,
        prepared=prepared,
        points=unproject(depth, intrinsics),
        mask=mask,
        intrinsics=intrinsics,
        pose=pose,
        content=processed.content,
    )
