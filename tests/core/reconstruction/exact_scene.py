"""A scene whose cameras are known: point maps as a student without error would predict them."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from distill3r_core.io.images.fit import ImageFit, fit_image
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.view_maps import ViewMaps
from distill3r_core.types import PointMap

# Of the full-size pictures: rows, columns, focal length.
CAMERAS = (((480, 640), 500.0), ((640, 480), 620.0), ((480, 640), 540.0))
SCALES = (1.0, 2.5, 0.4)  # local units in the world's
_WAVES = np.array([[1.3, 0.2], [0.4, -2.1], [2.0, 1.1]])


def world_from_cams() -> list[np.ndarray]:
    """Poses; the first is the identity."""
    poses = [np.eye(4) for _ in CAMERAS]
    poses[1][:3, :3] = Rotation.from_euler("xyz", [5, -12, 30], degrees=True).as_matrix()
    poses[1][:3, 3] = [0.5, -0.1, 0.2]
    poses[2][:3, :3] = Rotation.from_euler("xyz", [-8, 20, -4], degrees=True).as_matrix()
    poses[2][:3, 3] = [-0.4, 0.2, -0.3]
    return poses


def picture(size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """A colorful picture without noise, which survives resizing."""
    rows, columns = size
    v, u = np.mgrid[0:rows, 0:columns] / max(size)
    phases = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [np.sin(_WAVES[c, 0] * 4 * u + _WAVES[c, 1] * 4 * v + phases[c]) for c in range(3)]
    return np.round(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def exact_views(
    fit: ImageFit | None = None, *, cameras: Sequence[tuple[tuple[int, int], float]] = CAMERAS
) -> tuple[list[LoadedView], list[ViewMaps]]:
    """Views and their maps: local points in units of their own, global points in the world's."""
    fit = fit or ImageFit(size=(28, 42))
    views, maps = [], []
    for index, ((size, focal), pose, scale) in enumerate(
        zip(cameras, world_from_cams(), SCALES, strict=True)
    ):
        pixels = picture(size, seed=index)
        fitted = fit_image(pixels, fit, portrait=size[0] > size[1])
        views.append(LoadedView(f"view_{index:03d}", None, None, size, None, fitted, pixels))
        maps.append(_maps(fitted.placement, size, focal, pose, scale))
    return views, maps


def with_points(seen: PointMap, points: np.ndarray) -> PointMap:
    """The same map with other points."""
    return PointMap(points.astype(np.float32), seen.confidence)


def _maps(placement, size, focal, pose, scale) -> ViewMaps:
    at = full_size_pixels(placement) - np.array([size[1] / 2, size[0] / 2])
    depth = 3 + 0.5 * np.sin(at[..., 0] / 90) * np.cos(at[..., 1] / 70)
    rays = np.concatenate([at / focal, np.ones_like(at[..., :1])], axis=-1)
    local = depth[..., None] * rays
    world = local @ pose[:3, :3].T + pose[:3, 3]
    confidence = 1 + np.exp(np.sin(at[..., 0] / 50) + 1e-4 * at[..., 1])
    return ViewMaps(
        PointMap(world.astype(np.float32), confidence.astype(np.float32)),
        PointMap((local / scale).astype(np.float32), (confidence + 0.5).astype(np.float32)),
    )
