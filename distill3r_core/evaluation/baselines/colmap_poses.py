"""COLMAP's poses as a baseline: what classical matching makes of the same images."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.pnp import pnp_available
from distill3r_core.geometry.structure_from_motion import (
    SolvedImage,
    SolverCamera,
    solve_images,
)
from distill3r_core.types import ImagePlacement, RawMaps

MAX_VIEWS = 60  # all pairs are matched; more take many minutes
MIN_POINTS = 8  # of a view, for the scale of its map


def colmap_poses(truth: Truth, maps: RawMaps) -> Float[Tensor, "N 3 4"] | None:
    """Similarities that place maps in COLMAP's world, each scaled by the median of its points.

    A K that is one value for all cameras of a kind is where an estimate starts; others are kept.

    Returns:
        NaN for a view that COLMAP does not place. None where pycolmap is not installed, the images
        are not known at their own size, or there are too many.
    """
    if not pnp_available() or not truth.sources or len(truth.sources) > MAX_VIEWS:
        return None
    intrinsics = [view.intrinsics for view in truth.sources if view.intrinsics is not None]
    if len(intrinsics) < len(truth.sources):
        return None
    k = np.median(np.stack(intrinsics), axis=0)
    is_nominal = any(view.is_nominal for view in truth.sources)
    placed = solve_images(
        (view.image, SolverCamera.of(k, view.image.shape[:2], is_nominal=is_nominal))
        for view in truth.sources
    )
    found = torch.full((len(truth.sources), 3, 4), torch.nan, dtype=torch.float64)
    for view, solved in placed.items():
        scale = _scale(maps.points_local[view], truth.views[view].placement, solved)
        if scale is not None:
            pose = torch.from_numpy(solved.world_from_cam)
            found[view] = torch.cat([scale * pose[:3, :3], pose[:3, 3:]], dim=1)
    return found


def _scale(
    points: Float[Tensor, "H W 3"], placement: ImagePlacement, solved: SolvedImage
) -> float | None:
    """COLMAP's depth over the map's, in the median; None where few points tell."""
    left, top, right, bottom = placement.box
    rows, columns = points.shape[:2]
    pixels = solved.pixels
    column = np.floor((pixels[:, 0] - left) / (right - left) * columns).astype(int)
    row = np.floor((pixels[:, 1] - top) / (bottom - top) * rows).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    depth = points[..., 2].double().numpy()[row[inside], column[inside]]
    ratio = solved.depth[inside] / np.where(depth > 0, depth, np.nan)
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    return float(np.median(ratio)) if len(ratio) >= MIN_POINTS else None
