"""One focal length for views whose pixels' coordinates in a scene are known."""

import math
from collections.abc import Sequence

import numpy as np

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.pnp import pose_from_points
from distill3r_core.reconstruction.cameras.pinholes import FocalLength
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.view_maps import Map, counted_map

_VIEWS, _PAIRS = 6, 1_000  # that take part at most
_FIELDS = (30.0, 110.0)  # degrees along the long edge, of the focal lengths that are tried
_STEPS, _ROUNDS = 9, 3  # focal lengths in a round, each round between the neighbors of the best
_CAP = 0.02  # of the long edge: errors beyond it count as this


def scene_focals(views: Sequence[LoadedView], maps: Sequence[Map]) -> list[FocalLength] | None:
    """The focal length, over the long edge the same for all views, that explains the points best.

    Poses by PnP are tried with several focal lengths; the least mean error of the projected
    points decides, each error capped.

    Args:
        maps: Coordinates in the scene, one map per view.

    Returns:
        None where no view has a pose with any of them.
    """
    step = -(-len(views) // _VIEWS)
    pairs = []
    for view, points in zip(views[::step], maps[::step], strict=True):
        flat = counted_map(view, points).points.reshape(-1, 3).astype(np.float64)
        pixels = full_size_pixels(view.fitted.placement).reshape(-1, 2)
        chosen = np.flatnonzero(np.isfinite(flat).all(-1))
        chosen = chosen[:: max(1, -(-len(chosen) // _PAIRS))]
        pairs.append((flat[chosen], pixels[chosen], view.size))
    low, high = (0.5 / math.tan(math.radians(field) / 2) for field in reversed(_FIELDS))
    best = math.nan
    for _ in range(_ROUNDS):
        tried = np.geomspace(low, high, _STEPS)
        errors = [_error(pairs, ratio) for ratio in tried]
        if not np.isfinite(errors).any():
            return None
        place = int(np.nanargmin(errors))
        best = float(tried[place])
        low, high = tried[max(place - 1, 0)], tried[min(place + 1, _STEPS - 1)]
    return [FocalLength(best * max(view.size), "points") for view in views]


def _error(pairs: Sequence[tuple[np.ndarray, np.ndarray, tuple[int, int]]], ratio: float) -> float:
    """Mean capped error over the long edge; infinite where no view has a pose."""
    found = []
    for points, pixels, (height, width) in pairs:
        long = max(height, width)
        camera = np.array(
            [[ratio * long, 0, width / 2], [0, ratio * long, height / 2], [0, 0, 1.0]]
        )
        try:
            pose = pose_from_points(points, pixels, camera, (height, width))
        except GeometryError:
            found.append(_CAP)
            continue
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = np.where(local[:, 2:] > 0, local[:, 2:], np.nan)
        seen = (local @ camera.T)[:, :2] / depth
        error = np.linalg.norm(seen - pixels, axis=-1) / long
        found.append(float(np.minimum(np.nan_to_num(error, nan=_CAP), _CAP).mean()))
    return float(np.mean(found)) if min(found) < _CAP else math.inf
