"""How well the maps of a reconstruction fit a pinhole camera, each other, and between views."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from distill3r_core.geometry.depth_agreement import PosedDepth, depth_agreement
from distill3r_core.reconstruction.cameras.placements import map_intrinsics
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.local_views import LocalView
from distill3r_core.reconstruction.reconstruction import AlignedMap, PosedView
from distill3r_core.reconstruction.reliability.verdict import MapChecks
from distill3r_core.reconstruction.view_maps import (
    Map,
    confident_pixels,
    counted_map,
    finite_pixels,
)

_ROUNDS = 8  # of re-weighting; medians of misfits change by less than 1 % afterwards
_MAX_POINTS = 2000  # of a view that take part in a fit or a median
_MAX_PAIRS = 200  # of views: 0.2 s, and the median no longer changes
_MIN_FOCAL = 0.1  # of the long edge: wider than 155 degrees is no pinhole camera
_MIN_OVERLAP = 0.25  # share of a view's points that another must see to be compared with


def check_local_maps(views: Sequence[LocalView]) -> MapChecks:
    """Checks of local maps alone, without poses."""
    maps = [counted_map(view.loaded, view.predicted) for view in views]
    return MapChecks(float(np.median([fit_pinhole(one)[1] for one in maps])))


def check_maps(aligned: Sequence[AlignedMap], global_maps: Sequence[Map]) -> MapChecks:
    """Checks of views in one world.

    Args:
        aligned: Local maps with their similarities into the world.
        global_maps: Global maps of the same views, in the world's frame and unit.
    """
    depths, misfits, spreads = [], [], []
    for view, global_map in zip(aligned, global_maps, strict=True):
        intrinsics, misfit = fit_pinhole(view.local_map)
        # By the maps as predicted: points that were moved to a camera's rays fit it by themselves.
        misfits.append(misfit if view.predicted is None else fit_pinhole(view.predicted)[1])
        spreads.append(_spread(view, global_map))
        depths.append(_posed_depth(view, intrinsics))
    agreement, overlapping = _agreement(depths)
    return MapChecks(float(np.median(misfits)), float(np.median(spreads)), agreement, overlapping)


def check_views(views: Sequence[PosedView]) -> MapChecks:
    """Checks of a reconstruction; of views with global maps alone, only that views agree."""
    aligned = [_counted(view.loaded, view.aligned) for view in views if view.aligned is not None]
    if len(aligned) == len(views):
        return check_maps(aligned, [view.global_map for view in views])
    depths = [
        PosedDepth(
            np.where(view.valid_mask, view.depth, 0.0),
            map_intrinsics(view.camera, view.loaded.fitted.placement),
            view.camera.world_from_cam,
        )
        for view in views
    ]
    agreement, overlapping = _agreement(depths)
    return MapChecks(agreement=agreement, overlapping=overlapping)


def _counted(view: LoadedView, aligned: AlignedMap) -> AlignedMap:
    """An aligned map without the pixels that the mask of its view excludes."""
    predicted = None if aligned.predicted is None else counted_map(view, aligned.predicted)
    return AlignedMap(counted_map(view, aligned.local_map), aligned.world_from_local, predicted)


def fit_pinhole(local_map: Map) -> tuple[Float[np.ndarray, "3 3"], float]:
    """The pinhole camera that fits a local map best, and what is left.

    Focal lengths and principal point of both axes are free, so that squashed and cropped images
    fit as well as others.

    Returns:
        K in pixels of the map, and the median distance of a pixel from its point's projection as a
        share of the long edge: 0 for a pinhole camera, about 0.25 for a map without shape.
    """
    height, width = local_map.confidence.shape
    rows, columns = _usable(local_map)
    K, residuals = np.eye(3), np.zeros((2, len(rows)))
    if len(rows) < 3:
        return np.diag([float(width), float(height), 1.0]), 1.0
    x, y, z = local_map.points[rows, columns].astype(np.float64).T
    for axis, (slope, pixel) in enumerate([(x / z, columns + 0.5), (y / z, rows + 0.5)]):
        focal, center, residuals[axis] = _fit_line(slope, pixel)
        K[axis, axis], K[axis, 2] = focal, center
    return K, float(np.median(np.hypot(*residuals))) / max(height, width)


def _usable(local_map: Map) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of confident pixels in front of the camera, evenly thinned."""
    counted = _in_front(local_map)
    chosen = np.flatnonzero(counted)
    chosen = chosen[:: max(1, len(chosen) // _MAX_POINTS)]
    rows, columns = np.unravel_index(chosen, counted.shape)
    return rows, columns


def _in_front(local_map: Map) -> Bool[np.ndarray, "H W"]:
    finite = finite_pixels(local_map)
    if not finite.any():
        return finite
    # Not exactly 0: a slope of a point on the camera's plane has no bound.
    return finite & confident_pixels(local_map) & (local_map.points[..., 2] > 1e-6)


def _fit_line(
    x: Float[np.ndarray, "M"], y: Float[np.ndarray, "M"]
) -> tuple[float, float, Float[np.ndarray, "M"]]:
    """Slope, offset and residuals of `y = slope x + offset`, with Cauchy's weights."""
    weights = np.ones_like(x)
    slope, offset, residuals = _weighted_line(x, y, weights)
    for _ in range(_ROUNDS):
        width = 2 * np.median(np.abs(residuals))
        if width == 0:
            break
        weights = 1 / (1 + (residuals / width) ** 2)
        slope, offset, residuals = _weighted_line(x, y, weights)
    return slope, offset, residuals


def _weighted_line(
    x: Float[np.ndarray, "M"], y: Float[np.ndarray, "M"], weights: Float[np.ndarray, "M"]
) -> tuple[float, float, Float[np.ndarray, "M"]]:
    total = weights.sum()
    x_mean, y_mean = (weights @ x) / total, (weights @ y) / total
    variance = weights @ (x - x_mean) ** 2
    slope = (weights @ ((x - x_mean) * (y - y_mean))) / max(variance, 1e-12)
    offset = y_mean - slope * x_mean
    return float(slope), float(offset), y - offset - slope * x


def _spread(view: AlignedMap, global_map: Map) -> float:
    rows, columns = _usable(view.local_map)
    if not len(rows):
        return 1.0
    off = view.world_map.points[rows, columns] - global_map.points[rows, columns]
    depth = np.median(view.depth[rows, columns])
    return float(np.nanmedian(np.linalg.norm(off, axis=-1)) / depth)


def _posed_depth(view: AlignedMap, intrinsics: Float[np.ndarray, "3 3"]) -> PosedDepth:
    depth = np.where(_in_front(view.local_map), view.depth, 0.0)
    if min(intrinsics[0, 0], intrinsics[1, 1]) < _MIN_FOCAL * max(depth.shape):
        depth = np.zeros_like(depth)  # no camera: nothing can be carried
    linear = view.world_from_local[:, :3]
    pose = np.eye(4)
    pose[:3, :3] = linear / np.cbrt(np.linalg.det(linear))
    pose[:3, 3] = view.world_from_local[:, 3]
    return PosedDepth(depth, intrinsics, pose)


def _agreement(views: Sequence[PosedDepth]) -> tuple[float | None, float | None]:
    """Median agreement of overlapping pairs, and the share of pairs that overlap."""
    pairs = [(i, j) for i in range(len(views)) for j in range(len(views)) if i != j]
    if not pairs:
        return None, None
    if len(pairs) > _MAX_PAIRS:
        pairs = [pairs[round(k)] for k in np.linspace(0, len(pairs) - 1, _MAX_PAIRS)]
    found = [depth_agreement(views[i], views[j]) for i, j in pairs]
    shares = [one.agreement for one in found if one.overlap >= _MIN_OVERLAP]
    agreement = float(np.median(shares)) if shares else 0.0
    return agreement, len(shares) / len(pairs)
