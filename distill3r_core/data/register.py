"""Depth of one camera as seen by another one beside it."""

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
        depth_camera: K, centres at +0.5.
        color_camera: K, centres at +0.5.
        color_from_depth: Rigid motion, in the unit of `depth`.
        size: Rows and columns of the color picture.

    Returns:
        z in the color camera's frame, in the unit of `depth`, float32.
    """
    rows, columns = np.nonzero(depth > 0)
    z = depth[rows, columns].astype(np.float64)
    x = (columns + 0.5 - depth_camera[0, 2]) / depth_camera[0, 0] * z
    y = (rows + 0.5 - depth_camera[1, 2]) / depth_camera[1, 1] * z
    points = color_from_depth[:3, :3] @ np.stack([x, y, z]) + color_from_depth[:3, 3:]
    points = points[:, points[2] > 0]
    # rint of the coordinate whose whole numbers are pixel centres.
    u = np.rint(color_camera[0, 0] * points[0] / points[2] + (color_camera[0, 2] - 0.5))
    v = np.rint(color_camera[1, 1] * points[1] / points[2] + (color_camera[1, 2] - 0.5))
    inside = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    pixels = v[inside].astype(np.int64) * size[1] + u[inside].astype(np.int64)
    nearest = np.full(size[0] * size[1], np.inf)
    np.minimum.at(nearest, pixels, points[2, inside])
    nearest[np.isinf(nearest)] = 0
    return nearest.reshape(size).astype(np.float32)
