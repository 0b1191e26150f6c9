"""The pinhole camera of a view, its focal length estimated from the points of its map."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.io.images.inputs import spelled
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.placements import full_size_pixels
from distill3r_core.reconstruction.view_maps import (
    Map,
    ViewMaps,
    confident_pixels,
    finite_pixels,
    median_confidence,
)

_ROUNDS = 30
# Every k-th row and column takes part in the estimate of the focal length, as long as this many
# pixels do. All k divide the sizes of a student's maps: the principal point stays in the middle.
_STEPS, _PIXELS = (14, 7, 2), 2000
# Fields of view along the long edge, in degrees, that a camera may have, and the one that is
# assumed where neither the points nor the EXIF data give one.
_VIEWS = (5.0, 150.0)
_GUESSED_VIEW = 60.0


class FocalLength(NamedTuple):
    """A focal length in pixels of a full-size image, and where it comes from."""

    pixels: float
    source: str


def local_focal(view: LoadedView, local_map: Map) -> FocalLength:
    """A view's focal length by its map in its own camera's frame, else its EXIF, else a guess."""
    pixels = _focal_of_points(view, local_map)
    return _focal_without_points(view) if pixels is None else FocalLength(pixels, "points")


def shared_focals(views: Sequence[LoadedView], first: Map) -> list[FocalLength]:
    """The focal lengths of all views by the first one's map, as of one camera.

    A global map is in the first view's own frame only. For an image of another size the focal
    length is scaled by the long edge (Fast3R's `first_view_from_global_head`).
    """
    pixels = _focal_of_points(views[0], first)
    if pixels is None:
        return [_focal_without_points(view) for view in views]
    whole = views[0].size
    focals = [FocalLength(pixels, "points")]
    for view in views[1:]:
        same = view.size == whole
        source = "the first view's" + ("" if same else ", scaled by the long edge")
        focals.append(FocalLength(pixels * (1 if same else max(view.size) / max(whole)), source))
    return focals


def pinhole_camera(view: LoadedView, focal: FocalLength, maps: ViewMaps) -> Pinhole:
    """The camera of the full-size image; its principal point is the middle of the part kept."""
    left, top, right, bottom = view.fitted.placement.box
    intrinsics = np.array(
        [
            [focal.pixels, 0, (left + right) / 2],
            [0, focal.pixels, (top + bottom) / 2],
            [0, 0, 1],
        ],
        np.float64,
    )
    local_map = maps.local_map
    facts = {
        "focal_source": focal.source,
        "misfit": None if local_map is None else _misfit(view, local_map, intrinsics),
        "exif_focal": view.exif_focal,
        **{f"confidence_{name}": median_confidence(each) for name, each in maps.known.items()},
        "source": spelled(view.path) if view.path else None,
        "frame": view.frame,
    }
    return Pinhole(view.name, view.size, intrinsics, facts)


def _misfit(view: LoadedView, local_map: Map, intrinsics: Float[np.ndarray, "3 3"]) -> float | None:
    """Median distance of pixels from the projections of their points, as a share of the long edge.

    Over the confident pixels; None where none of their points is in front of the camera.
    """
    in_front = local_map.points[..., 2] > 0
    counted = finite_pixels(local_map) & confident_pixels(local_map) & in_front
    if not counted.any():
        return None
    points = local_map.points[counted].astype(np.float64)
    projected = points[:, :2] / points[:, 2:] * intrinsics[0, 0] + intrinsics[:2, 2]
    off = np.linalg.norm(projected - full_size_pixels(view.fitted.placement)[counted], axis=1)
    return float(np.median(off)) / max(view.size)


def _focal_of_points(view: LoadedView, points: Map) -> float | None:
    """The focal length in pixels of the full-size image; None where no plausible one fits."""
    if not finite_pixels(points).any():
        return None
    placement = view.fitted.placement
    step = next((k for k in _STEPS if points.confidence.size >= _PIXELS * k * k), 1)
    # A squashed image has two focal lengths. Slopes in squashed units have the source's one.
    left, top, right, bottom = placement.box
    height, width = placement.size
    stretch = np.array([width / (right - left), height / (bottom - top), step]) / step
    try:
        focal = estimate_focal(
            torch.from_numpy(points.points[::step, ::step] * stretch),
            torch.from_numpy(confident_pixels(points)[::step, ::step]),
            center=0.5 / step,
            rounds=_ROUNDS,
        ).item()
    except GeometryError:
        return None
    widest, narrowest = (_focal_of_angle(angle, view.size) for angle in reversed(_VIEWS))
    return focal if widest <= focal <= narrowest else None


def _focal_without_points(view: LoadedView) -> FocalLength:
    if view.exif_focal is not None:
        return FocalLength(view.exif_focal, "exif: no plausible focal length fits the points")
    return FocalLength(
        _focal_of_angle(_GUESSED_VIEW, view.size),
        f"guessed ({_GUESSED_VIEW:g}° wide): no plausible focal length fits the points",
    )


def _focal_of_angle(angle: float, size: tuple[int, int]) -> float:
    """Pixels of focal length for a field of view, in degrees, along the long edge."""
    return float(max(size) / (2 * np.tan(np.radians(angle / 2))))
