"""A cloud drawn without a graphics card: each point covers the pixels that close its surface."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from distill3r_core.io.exports.cloud import Cloud

BACKGROUND = (20, 22, 26)
_NEAREST = 1e-6  # depth in front of the eye


@dataclass(frozen=True)
class Eye:
    """Where a cloud is seen from.

    Args:
        world_from_eye: OpenCV axes.
        spread: Tangents of half the angles that are seen, across and down.
        spacing: Distance between neighboring points of a surface, in the world's unit.
    """

    world_from_eye: Float[np.ndarray, "4 4"]
    spread: tuple[float, float]
    spacing: float


def draw_cloud(cloud: Cloud, eye: Eye, *, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The cloud as an image, nearer points before farther ones.

    Args:
        size: Rows and columns of the image.
    """
    rows, columns = size
    pose = eye.world_from_eye
    seen = (cloud.points.astype(np.float64) - pose[:3, 3]) @ pose[:3, :3]
    order = np.flatnonzero(seen[:, 2] > _NEAREST)
    order = order[np.argsort(-seen[order, 2], kind="stable")]  # painted from far to near
    x, y, z = seen[order].T
    focal = min(columns / 2 / eye.spread[0], rows / 2 / eye.spread[1])
    u = np.floor(focal * x / z + columns / 2).astype(np.int64)
    v = np.floor(focal * y / z + rows / 2).astype(np.int64)
    # As in the page: points are as large as their distance to each other.
    reach = np.clip(np.round(focal * eye.spacing / z / 2), 0, 3).astype(np.int64)
    image = np.full((rows, columns, 3), BACKGROUND, np.uint8)
    nearest = np.full((rows, columns), np.inf)
    colors = cloud.colors[order]
    widest = int(reach.max(initial=0))
    for down in range(-widest, widest + 1):
        for across in range(-widest, widest + 1):
            covers = reach >= max(abs(down), abs(across))
            r, c = v + down, u + across
            covers &= (r >= 0) & (r < rows) & (c >= 0) & (c < columns)
            r, c, depth = r[covers], c[covers], z[covers]
            # The last one written to a pixel is the nearest of this offset.
            layer = np.full((rows, columns), np.inf)
            layer[r, c] = depth
            picture = np.zeros((rows, columns, 3), np.uint8)
            picture[r, c] = colors[covers]
            before = layer < nearest
            nearest[before], image[before] = layer[before], picture[before]
    return image
