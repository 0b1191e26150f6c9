"""The pinhole camera of a view, its focal length estimated from the points of its map."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.io.images.inputs import display_path
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.cameras.placements import (
    full_size_intrinsics,
    full_size_pixels,
)
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.view_maps import (
    Map,
    ViewMaps,
    confident_pixels,
    counted_map,
    finite_pixels,
    median_confidence,
)
from distill3r_core.types import PointMap

_ROUNDS = 30
# Every k-th row and column takes part in the estimate of the focal length, as long as this many
# pixels do. All k divide the sizes of a student's maps: the principal point stays in the middle.
_STEPS, _PIXELS = (14, 7, 2), 2000
# Fields of view along the long edge, in degrees, that a camera may have, and the one that is
# assumed where neither the points nor the EXIF data give one.
_VIEWS = (5.0, 150.0)
_GUESSED_VIEW = 60.0
# Sources of focal lengths that were found, not assumed.
_POINTS, _MODEL = "points", "the model's"
_KNOWN = (_POINTS, _MODEL)


class FocalLength(NamedTuple):
    """A focal length in pixels of a full-size image, and where it comes from."""

    pixels: float
    source: str


class ViewIntrinsics(NamedTuple):
    """K of a full-size image, and where it comes from.

    Args:
        matrix: In pixels, centers at +0.5.
        source: Where the focal length comes from.
        imposed: Whether it is not the view's own estimate: its local points are then moved to the
            rays of this camera.
    """

    matrix: Float[np.ndarray, "3 3"]
    source: str
    imposed: bool = False


def intrinsics_of(view: LoadedView, focal: FocalLength) -> ViewIntrinsics:
    """K with the principal point in the middle of the part of the image that is kept."""
    left, top, right, bottom = view.fitted.placement.box
    x, y = (left + right) / 2, (top + bottom) / 2
    matrix = np.array([[focal.pixels, 0, x], [0, focal.pixels, y], [0, 0, 1]], np.float64)
    return ViewIntrinsics(matrix, focal.source)


def local_intrinsics(
    views: Sequence[LoadedView], maps: Sequence[ViewMaps], options: CameraOptions
) -> Iterator[ViewIntrinsics]:
    """K of every view with a local map: given, one for all, the model's, or the points' own."""
    if options.intrinsics is not None:
        given = ViewIntrinsics(options.intrinsics, "given", imposed=True)
        yield from [given] * len(views)
        return
    pairs = zip(views, maps, strict=True)
    if not options.shared:
        for view, predicted in pairs:
            known = known_intrinsics(view, predicted)
            yield intrinsics_of(view, _own_focal(view, predicted)) if known is None else known
        return
    focals = [(view, _own_focal(view, predicted)) for view, predicted in pairs]
    own = [each for each in focals if each[1].source in _KNOWN]
    share = float(np.median([focal.pixels / max(view.size) for view, focal in own or focals]))
    for view in views:
        focal = FocalLength(share * max(view.size), "points of all views" if own else "shared")
        yield intrinsics_of(view, focal)._replace(imposed=True)


def known_intrinsics(view: LoadedView, maps: ViewMaps) -> ViewIntrinsics | None:
    """K as the model knows it; None where it does not."""
    if maps.intrinsics is None:
        return None
    return ViewIntrinsics(full_size_intrinsics(maps.intrinsics, view.fitted.placement), _MODEL)


def _own_focal(view: LoadedView, maps: ViewMaps) -> FocalLength:
    known = known_intrinsics(view, maps)
    if known is not None:
        return FocalLength(float(known.matrix.diagonal()[:2].mean()), known.source)
    assert maps.local_map is not None, "a focal length of its own needs a local map"
    return local_focal(view, maps.local_map)


def points_on_rays(view: LoadedView, points: Map, intrinsics: Float[np.ndarray, "3 3"]) -> Map:
    """Points of a local map moved to the rays of a camera; each keeps its z."""
    pixels = full_size_pixels(view.fitted.placement)
    slopes = (pixels - intrinsics[:2, 2]) / intrinsics.diagonal()[:2]
    z = points.points[..., 2:]
    moved = np.concatenate([slopes * z, z], axis=-1).astype(np.float32)
    return PointMap(moved, points.confidence)


def local_focal(view: LoadedView, local_map: Map) -> FocalLength:
    """A view's focal length by its map in its own camera's frame, else its EXIF, else a guess."""
    pixels = _focal_of_points(view, local_map)
    return _focal_without_points(view) if pixels is None else FocalLength(pixels, _POINTS)


def shared_focals(views: Sequence[LoadedView], first: Map) -> list[FocalLength]:
    """The focal lengths of all views by the first one's map, as of one camera.

    A global map is in the first view's own frame only. For an image of another size the focal
    length is scaled by the long edge (Fast3R's `first_view_from_global_head`).
    """
    pixels = _focal_of_points(views[0], first)
    if pixels is None:
        return [_focal_without_points(view) for view in views]
    whole = views[0].size
    focals = [FocalLength(pixels, _POINTS)]
    for view in views[1:]:
        same = view.size == whole
        source = "the first view's" + ("" if same else ", scaled by the long edge")
        focals.append(FocalLength(pixels * (1 if same else max(view.size) / max(whole)), source))
    return focals


def pinhole_camera(view: LoadedView, known: ViewIntrinsics, maps: ViewMaps) -> Pinhole:
    """The camera of the full-size image, with what is known about it."""
    intrinsics, local_map = known.matrix, maps.local_map
    counted = {name: counted_map(view, each) for name, each in maps.known.items()}
    facts = {
        "focal_source": known.source,
        "misfit": None if local_map is None else _misfit(view, counted["local"], intrinsics),
        "exif_focal": view.exif_focal,
        **{f"confidence_{name}": median_confidence(each) for name, each in counted.items()},
        "source": display_path(view.path) if view.path else None,
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
    projected = points[:, :2] / points[:, 2:] * intrinsics.diagonal()[:2] + intrinsics[:2, 2]
    off = np.linalg.norm(projected - full_size_pixels(view.fitted.placement)[counted], axis=1)
    return float(np.median(off)) / max(view.size)


def _focal_of_points(view: LoadedView, points: Map) -> float | None:
    """The focal length in pixels of the full-size image; None where no plausible one fits."""
    points = counted_map(view, points)
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
