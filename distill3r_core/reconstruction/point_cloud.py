"""The point cloud of a reconstruction: which of its points are kept, and where each comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from distill3r_core.geometry import cleaning
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.colmap import Observations
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.reconstruction import PosedView, Reconstruction

# A view that keeps less than this share of what all views keep on average is called low.
LOW_SHARE = 0.5


@dataclass(frozen=True)
class Cleaning:
    """Which points are kept.

    Args:
        conf: The percentage of all points with the lowest confidence that is dropped.
        edges: Largest jump of depth between neighbors, as a share of it; 0 keeps all.
        voxel: Edge of the cubes that keep one point each, in the scene's unit; 0 keeps all.
        max_points: Largest number of points; where more are left, they are drawn at random.
        seed: Seed of that draw.
    """

    conf: float = 10.0
    edges: float = 0.0
    voxel: float = 0.0
    max_points: int = 1_000_000
    seed: int = 0


@dataclass(frozen=True)
class CleaningStep:
    """A step of the cleaning: how many points came in and how many are left."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class CleanCloud:
    """The points that are kept, each with where it comes from.

    Args:
        cloud: In the world frame.
        confidence: Confidence of each point.
        view: Index of the view of each point.
        pixel: Row and column of each point in its view's map.
        steps: How many points each step of the cleaning dropped.
        kept: Share of its points that every view keeps after the confidence step.
    """

    cloud: Cloud
    confidence: Float[np.ndarray, "M"]
    view: Int64[np.ndarray, "M"]
    pixel: Int64[np.ndarray, "M 2"]
    steps: tuple[CleaningStep, ...]
    kept: tuple[float, ...]


def clean_cloud(scene: Reconstruction, settings: Cleaning | None = None) -> CleanCloud:
    """The cloud of a reconstruction after the steps of the cleaning, in the order of the views."""
    settings = settings or Cleaning()
    maps = [scene.map_of(view) for view in scene.views]
    points = np.concatenate([one.points.reshape(-1, 3) for one in maps])
    confidence = np.concatenate([one.confidence.reshape(-1) for one in maps])
    chosen = np.flatnonzero(np.isfinite(points).all(-1) & np.isfinite(confidence))
    steps = [CleaningStep("finite", len(points), len(chosen))]

    def step(name: str, kept: Int64[np.ndarray, "_"]) -> None:
        nonlocal chosen
        steps.append(CleaningStep(name, len(chosen), len(kept)))
        chosen = kept

    if any(view.loaded.mask is not None for view in scene.views):
        counted = np.concatenate([_counted(view).reshape(-1) for view in scene.views])
        step("masks", chosen[counted[chosen]])
    step(
        f"confidence (lowest {settings.conf:g} %)",
        chosen[cleaning.above_percentile(confidence[chosen], settings.conf)],
    )
    # The share of every view's points, as far as its mask leaves them.
    totals = [max(int(_counted(view).sum()), 1) for view in scene.views]
    counts = np.bincount(_origins(scene, chosen)[0], minlength=len(totals))
    kept = tuple(float(count / total) for count, total in zip(counts, totals, strict=True))
    if settings.edges:
        depths = [torch.from_numpy(np.ascontiguousarray(view.depth)) for view in scene.views]
        smooth = [cleaning.smooth_depth(depth, settings.edges).numpy() for depth in depths]
        flat = np.concatenate([mask.reshape(-1) for mask in smooth])
        step(f"depth edges (over {settings.edges:g})", chosen[flat[chosen]])
    if settings.voxel:
        one = cleaning.one_per_voxel(points[chosen], confidence[chosen], settings.voxel)
        step(f"voxels of {settings.voxel:g}", chosen[one])
    drawn = cleaning.at_most(len(chosen), settings.max_points, seed=settings.seed)
    step(f"at most {settings.max_points:,}", chosen[drawn])
    colors = np.concatenate([view.loaded.fitted.image.reshape(-1, 3) for view in scene.views])
    cloud = Cloud(points[chosen], colors[chosen])
    view, pixel = _origins(scene, chosen)
    return CleanCloud(cloud, confidence[chosen], view, pixel, tuple(steps), kept)


def low_views(kept: Sequence[float]) -> list[int]:
    """Views that keep far fewer points than the others do."""
    mean = sum(kept) / len(kept)
    return [index for index, share in enumerate(kept) if share < LOW_SHARE * mean]


def observations(scene: Reconstruction, cleaned: CleanCloud) -> Observations:
    """The pixel of a full-size image that each point of the cloud comes from."""
    pixels = np.empty((len(cleaned.cloud), 2))
    error = np.empty(len(cleaned.cloud))
    for index, view in enumerate(scene.views):
        own = np.flatnonzero(cleaned.view == index)
        rows, columns = cleaned.pixel[own].T
        pixels[own] = full_size_pixels(view.loaded.fitted.placement)[rows, columns]
        pose, k = view.camera.world_from_cam, view.camera.intrinsics
        local = (cleaned.cloud.points[own] - pose[:3, 3]) @ pose[:3, :3]
        with np.errstate(divide="ignore", invalid="ignore"):
            projected = local[:, :2] / local[:, 2:] * k.diagonal()[:2] + k[:2, 2]
        off = np.linalg.norm(projected - pixels[own], axis=1)
        # A point behind its camera has no projection; COLMAP writes -1 for an unknown error.
        error[own] = np.where(np.isfinite(off) & (local[:, 2] > 0), off, -1.0)
    return Observations(cleaned.view, pixels, error)


def _counted(view: PosedView) -> Bool[np.ndarray, "H W"]:
    """The pixels of a view that its mask leaves."""
    mask = view.loaded.mask
    return np.ones(view.global_map.confidence.shape, bool) if mask is None else mask


def _origins(
    scene: Reconstruction, chosen: Int64[np.ndarray, "K"]
) -> tuple[Int64[np.ndarray, "K"], Int64[np.ndarray, "K 2"]]:
    """The view of each point, by its index in the list of all points, and its row and column."""
    sizes = [view.global_map.confidence.shape for view in scene.views]
    starts = np.cumsum([0, *(height * width for height, width in sizes)])
    view = np.searchsorted(starts, chosen, side="right") - 1
    widths = np.array([width for _, width in sizes])[view]
    return view, np.stack(np.divmod(chosen - starts[view], widths), axis=1)
