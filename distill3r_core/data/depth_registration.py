"""Depth of one camera as seen by another one beside it."""

import functools

import numpy as np
from jaxtyping import Float


def register_depth(
    depth: Float[np.ndarray, "H W"],
    *,
    depth_camera: Float[np.ndarray, "3 3"],
    color_camera: Float[np.ndarray, "3 3"],
    color_from_depth: Float[np.ndarray, "4 4"],
    size: tuple[int, int],
) -> Float[np.ndarray, "h w"]:
    """Depth registered to the color camera: every point goes to the pixel it falls into.

    Where several fall into one the nearest wins; pixels that none falls into stay 0. The recipe of
    the published 7-Scenes evaluations (SimpleRecon's preparation of that data set).

    Args:
        depth: z in the depth camera's frame, 0 where unknown.
        depth_camera: K, centers at +0.5.
        color_camera: K, centers at +0.5.
        color_from_depth: Rigid motion, in the unit of `depth`.
        size: Rows and columns of the color image.

    Returns:
        z in the color camera's frame, in the unit of `depth`, float32.
    """
    flat = depth.ravel()
    seen = np.flatnonzero(flat > 0)
    rays = _rays(depth.shape, _bytes(depth_camera), _bytes(color_from_depth[:3, :3]))
    x, y, z = rays[:, seen] * flat[seen].astype(np.float64) + color_from_depth[:3, 3:]
    front = z > 0
    if not front.all():
        x, y, z = x[front], y[front], z[front]
    # rint of the coordinate whose whole numbers are pixel centers.
    u = np.rint(color_camera[0, 0] * x / z + (color_camera[0, 2] - 0.5))
    v = np.rint(color_camera[1, 1] * y / z + (color_camera[1, 2] - 0.5))
    inside = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    pixels = v[inside].astype(np.int64) * size[1] + u[inside].astype(np.int64)
    nearest = np.full(size[0] * size[1], np.inf)
    np.minimum.at(nearest, pixels, z[inside])
    nearest[np.isinf(nearest)] = 0
    return nearest.reshape(size).astype(np.float32)


@functools.lru_cache(maxsize=4)  # one camera makes a whole data set
def _rays(size: tuple[int, ...], camera: bytes, rotation: bytes) -> Float[np.ndarray, "3 pixels"]:
    """Rays of all pixels at depth 1, turned by a rotation; K and rotation as bytes of float64."""
    K = np.frombuffer(camera).reshape(3, 3)
    rows, columns = np.indices(size).reshape(2, -1)
    x, y = (columns + 0.5 - K[0, 2]) / K[0, 0], (rows + 0.5 - K[1, 2]) / K[1, 1]
    return np.frombuffer(rotation).reshape(3, 3) @ np.stack([x, y, np.ones_like(x)])


def _bytes(matrix: Float[np.ndarray, "3 3"]) -> bytes:
    return np.ascontiguousarray(matrix, dtype=np.float64).tobytes()
