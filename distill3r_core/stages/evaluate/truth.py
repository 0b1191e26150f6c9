"""What predictions are scored against: a data set's test frames, or a run's validation samples."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.frame_processing import Processed, Processing, process
from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import LAYOUTS, detect_layout, frames_for_test
from distill3r_core.data.sample_sources import read_at
from distill3r_core.errors import ImageError
from distill3r_core.evaluation.protocols import Protocol
from distill3r_core.geometry.cameras import place_intrinsics, unproject
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.geometry.resample import resample_nearest
from distill3r_core.io.images.fit import Fit, fit_for, fit_image, is_portrait
from distill3r_core.report import Failure, Progress
from distill3r_core.types import Unit

LEAST_POINTS = 3  # of a view; fewer do not fix a similarity
MILLIMETRES = 1000.0


@dataclass(frozen=True)
class Truth:
    """A sequence at the grid of the predictions.

    Args:
        name: Of the sequence.
        world: Of the sequences that share its world frame; a prefix of their names.
        view_names: For messages.
        images: RGB.
        points: In each camera's frame; anything outside the mask.
        mask: Where the truth is known.
        intrinsics: K of each map.
        poses: `world_from_cam`, metres; None where they are not known.
        unit: Of the points: metres, or none.
        contents: What the frames are known by.
    """

    name: str
    world: str
    view_names: tuple[str, ...]
    images: UInt8[Tensor, "N 3 H W"]
    points: Float[Tensor, "N H W 3"]
    mask: Bool[Tensor, "N H W"]
    intrinsics: Float[Tensor, "N 3 3"]
    poses: Float[Tensor, "N 4 4"] | None
    unit: Unit
    contents: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.points.shape[1], self.points.shape[2]


@dataclass(frozen=True)
class TestData:
    """The test part of a data set.

    Args:
        layout: By name.
        truths: Sequence by sequence.
        seen: Frames left out because the student was trained on them.
        failed: Frames left out because they cannot be used.
    """

    layout: str
    truths: tuple[Truth, ...]
    seen: int
    failed: tuple[Failure, ...]


def read_test_data(
    root: Path,
    *,
    layout: str,
    protocol: Protocol,
    processing: Processing,
    fit: Fit,
    trained_on: Collection[str],
    progress: Progress,
) -> TestData:
    """The frames of a data set that a protocol scores.

    Args:
        root: Of the data set.
        layout: By name; "auto" finds out.
        protocol: Chooses the frames.
        processing: How frames were brought to their processed form for the student.
        fit: How pictures become its input.
        trained_on: Hashes of pictures that are left out, and counted.
        progress: Reports every frame.

    Raises:
        InputMissingError: There is nothing at `root`.
    """
    layout = detect_layout(root)[0].name if layout == "auto" else layout
    chosen = [
        (name, [frames[index] for index in protocol.frames(layout, [f.number for f in frames])])
        for name, frames in frames_for_test(root, layout)
    ]
    progress.begin("read", total=sum(len(frames) for _, frames in chosen), unit="frames")
    truths, failed, seen = [], [], 0
    for name, frames in chosen:
        kept: list[tuple[str, Processed]] = []
        for frame in frames:
            progress.advance()
            try:
                processed = process(read_source_frame(frame), processing)
                _check_truth(processed)
            except ImageError as error:
                failed.append(Failure(str(frame.image), str(error)))
                continue
            if processed.picture in trained_on:
                seen += 1
                continue
            kept.append((frame.name, processed))
        truth, unusable = _truth_of(name, layout, kept, fit)
        truths += truth
        failed += unusable
    return TestData(layout, tuple(truths), seen, tuple(failed))


def read_validation(
    cache: TeacherCache,
    *,
    size: tuple[int, int] | None,
    trained_on: frozenset[str],
    failed: list[Failure],
) -> Iterator[Truth]:
    """The validation samples of a cache, with what the teacher said as the truth.

    Args:
        cache: That a run learned from.
        size: Of the student's input, landscape; None: as the cache has it.
        trained_on: Hashes of pictures that are left out.
        failed: Gets the samples that cannot be scored, as they are come by.
    """
    for name in cache.names("val"):
        pictures = cache.detail(name)["pictures"]
        unseen = [view for view, picture in enumerate(pictures) if picture not in trained_on]
        if not unseen:
            continue  # counted by who asks
        images, targets = read_at(cache, name, size=size)
        usable = [view for view in unseen if int(targets.valid_mask[view].sum()) >= LEAST_POINTS]
        if not usable:
            reason = f"no view has {LEAST_POINTS} pixels that the teacher vouches for"
            failed.append(Failure(name, reason))
            continue
        points, mask = targets.points_local[usable], targets.valid_mask[usable]
        given = targets.intrinsics
        yield Truth(
            name=name,
            world=name,
            view_names=tuple(f"view {view}" for view in usable),
            images=images[usable],
            points=points,
            mask=mask,
            intrinsics=_estimated(points, mask) if given is None else given[usable],
            poses=poses_of(cache.detail(name), usable),
            unit="m" if cache.header.metric else "none",
            contents=tuple(pictures[view] for view in usable),
        )


def poses_of(detail: Any, views: Sequence[int]) -> Float[Tensor, "N 4 4"] | None:
    """Camera poses of a cached sample's views, in metres; None where one is not known."""
    poses, units = detail.get("poses"), detail.get("units")
    if poses is None or units is None or any(poses[view] is None for view in views):
        return None
    found = torch.tensor([poses[view] for view in views], dtype=torch.float64).reshape(-1, 4, 4)
    for row, view in enumerate(views):
        if units[view] == "mm":
            found[row, :3, 3] /= MILLIMETRES
    return found


def _check_truth(processed: Processed) -> None:
    if processed.depth is None:
        raise ImageError("no depth: there is nothing to score against")
    if processed.intrinsics_source != "calibrated":
        raise ImageError("no calibrated intrinsics: there is nothing to score against")


def _truth_of(
    name: str, layout: str, frames: Sequence[tuple[str, Processed]], fit: Fit
) -> tuple[list[Truth], list[Failure]]:
    """A sequence's truth at the grid, in a list that is empty where no frame is left."""
    if not frames:
        return [], []
    sizes = [processed.image.shape[:2] for _, processed in frames]
    portrait, fit = is_portrait(sizes), fit_for(sizes, fit)
    views, failed = [], []
    for view_name, processed in frames:
        view = _view_of(view_name, processed, fit, portrait=portrait)
        if int(view.mask.sum()) < LEAST_POINTS:
            failed.append(Failure(f"{name}/{view_name}", "no valid depth on the student's grid"))
        else:
            views.append(view)
    if not views:
        return [], failed
    poses = [view.pose for view in views if view.pose is not None]
    truth = Truth(
        name=name,
        world=name.rpartition("/")[0] if LAYOUTS[layout].shared_world else name,
        view_names=tuple(view.name for view in views),
        images=torch.stack([view.image for view in views]),
        points=torch.stack([view.points for view in views]),
        mask=torch.stack([view.mask for view in views]),
        intrinsics=torch.stack([view.intrinsics for view in views]),
        poses=torch.stack(poses) if len(poses) == len(views) else None,
        unit="none" if any(processed.unit == "none" for _, processed in frames) else "m",
        contents=tuple(view.content for view in views),
    )
    return [truth], failed


@dataclass(frozen=True)
class _TestView:
    name: str
    image: UInt8[Tensor, "3 H W"]
    points: Float[Tensor, "H W 3"]
    mask: Bool[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]
    pose: Float[Tensor, "4 4"] | None
    content: str


def _view_of(name: str, processed: Processed, fit: Fit, *, portrait: bool) -> _TestView:
    """A frame as the student sees it, its depth sampled to the same grid (nearest)."""
    fitted = fit_image(processed.image, fit, portrait=portrait)
    placement = fitted.placement
    assert processed.depth is not None, "checked as it was read"
    metre = MILLIMETRES if processed.unit == "mm" else 1.0
    depth = torch.from_numpy(processed.depth).float() / metre
    if placement.transposed:
        depth = depth.T
        left, top, right, bottom = placement.box
        depth = resample_nearest(depth, (top, left, bottom, right), placement.size)
    else:
        depth = resample_nearest(depth, placement.box, placement.size)
    intrinsics = place_intrinsics(torch.from_numpy(processed.intrinsics), placement).float()
    pose = None
    if processed.world_from_cam is not None:
        pose = torch.from_numpy(processed.world_from_cam).double().clone()
        pose[:3, 3] /= metre
    return _TestView(
        name=name,
        image=torch.from_numpy(fitted.image).movedim(-1, 0).contiguous(),
        points=unproject(depth, intrinsics),
        mask=depth > 0,
        intrinsics=intrinsics,
        pose=pose,
        content=processed.content,
    )


def _estimated(
    points: Float[Tensor, "N H W 3"], mask: Bool[Tensor, "N H W"]
) -> Float[Tensor, "N 3 3"]:
    """K of maps that come without one: a focal length fitted to them, the center in the middle."""
    _, height, width, _ = points.shape
    intrinsics = torch.eye(3).repeat(len(points), 1, 1)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = width / 2, height / 2
    focal = estimate_focal(points, mask)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
    return intrinsics
