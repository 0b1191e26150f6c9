"""The pinhole camera that a view was seen through, from the points of its map."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.cameras import place_intrinsics
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.io.images.inputs import spelled
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.view_maps import Maps, ViewMap
from distill3r_core.types import Placement

_ROUNDS = 30
# Every k-th row and column votes for the focal length, as long as so many pixels do. All k divide
# the student's sizes: the principal point stays in the middle.
_STEPS, _VOTES = (14, 7, 2), 2000
# Fields of view along the long edge, in degrees, that a camera may have, and the one that is
# taken where neither the points nor the camera tell.
_VIEWS = (5.0, 150.0)
_GUESSED_VIEW = 60.0


class Focal(NamedTuple):
    """A focal length in pixels of a full-size picture, and where it comes from."""

    pixels: float
    source: str


def own_focal(picture: LoadedView, seen: ViewMap) -> Focal:
    """A view's focal length by its map in its own camera's frame, else its EXIF, else a guess."""
    found = _of_points(picture, seen)
    return _without_points(picture) if found is None else Focal(found, "points")


def shared_focals(pictures: Sequence[LoadedView], first: ViewMap) -> list[Focal]:
    """The focal lengths of all views by the first one's map, as of one camera.

    A global map is in the first view's own frame only. For a picture of another size the focal
    length goes with the long edge (Fast3R's `first_view_from_global_head`).
    """
    found = _of_points(pictures[0], first)
    if found is None:
        return [_without_points(picture) for picture in pictures]
    whole = pictures[0].size
    focals = [Focal(found, "points")]
    for picture in pictures[1:]:
        same = picture.size == whole
        source = "the first view's" + ("" if same else ", scaled by the long edge")
        focals.append(Focal(found * (1 if same else max(picture.size) / max(whole)), source))
    return focals


def pinhole_of(picture: LoadedView, focal: Focal, maps: Maps) -> Pinhole:
    """The camera of the full-size picture; its principal point is the middle of what was seen."""
    left, top, right, bottom = picture.fitted.placement.box
    intrinsics = np.array(
        [
            [focal.pixels, 0, (left + right) / 2],
            [0, focal.pixels, (top + bottom) / 2],
            [0, 0, 1],
        ],
        np.float64,
    )
    facts = {
        "focal_source": focal.source,
        "misfit": None if maps.local is None else _misfit(picture, maps.local, intrinsics),
        "exif_focal": picture.exif_focal,
        **{f"confidence_{name}": seen.median_confidence for name, seen in maps.known.items()},
        "source": spelled(picture.path) if picture.path else None,
        "frame": picture.frame,
    }
    return Pinhole(picture.name, picture.size, intrinsics, facts)


def _misfit(
    picture: LoadedView, own: ViewMap, intrinsics: Float[np.ndarray, "3 3"]
) -> float | None:
    """How far pixels lie from where the camera sees their points, as a share of the long edge.

    The median over the pixels that vote for a camera; None where none is in front of it.
    """
    counted = own.finite & own.voters & (own.points[..., 2] > 0)
    if not counted.any():
        return None
    points = own.points[counted].astype(np.float64)
    seen = points[:, :2] / points[:, 2:] * intrinsics[0, 0] + intrinsics[:2, 2]
    off = np.linalg.norm(seen - full_pixels(picture.fitted.placement)[counted], axis=1)
    return float(np.median(off)) / max(picture.size)


def map_intrinsics(camera: Pinhole, placement: Placement) -> Float[np.ndarray, "3 3"]:
    """K in pixels of a view's maps; a squashed picture has two focal lengths."""
    return place_intrinsics(torch.from_numpy(camera.intrinsics), placement).numpy()


def full_pixels(placement: Placement) -> Float[np.ndarray, "H W 2"]:
    """Where the centers of a fitted picture's pixels lie in the full-size one, (u, v)."""
    left, top, right, bottom = placement.box
    height, width = placement.size
    u = left + (np.arange(width) + 0.5) * (right - left) / width
    v = top + (np.arange(height) + 0.5) * (bottom - top) / height
    return np.stack(np.meshgrid(u, v), axis=-1)


def _of_points(picture: LoadedView, seen: ViewMap) -> float | None:
    """The focal length in pixels of the full-size picture; None where no plausible one fits."""
    if not seen.finite.any():
        return None
    placement = picture.fitted.placement
    step = next((k for k in _STEPS if seen.confidence.size >= _VOTES * k * k), 1)
    # A squashed picture has two focal lengths. Slopes in squashed units have the source's one.
    left, top, right, bottom = placement.box
    height, width = placement.size
    stretch = np.array([width / (right - left), height / (bottom - top), step]) / step
    try:
        focal = estimate_focal(
            torch.from_numpy(seen.points[::step, ::step] * stretch),
            torch.from_numpy(seen.voters[::step, ::step]),
            center=0.5 / step,
            rounds=_ROUNDS,
        ).item()
    except GeometryError:
        return None
    widest, narrowest = (_of_view(angle, picture.size) for angle in reversed(_VIEWS))
    return focal if widest <= focal <= narrowest else None


def _without_points(picture: LoadedView) -> Focal:
    if picture.exif_focal is not None:
        return Focal(picture.exif_focal, "exif: no plausible focal length fits the points")
    return Focal(
        _of_view(_GUESSED_VIEW, picture.size),
        f"guessed ({_GUESSED_VIEW:g}° wide): no plausible focal length fits the points",
    )


def _of_view(angle: float, size: tuple[int, int]) -> float:
    """Pixels of focal length for a field of view, in degrees, along the long edge."""
    return float(max(size) / (2 * np.tan(np.radians(angle / 2))))
