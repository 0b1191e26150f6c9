"""How well the depth maps of two posed views agree: the test of their conventions."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

TOLERANCE = 0.05  # relative difference of two depths that counts as agreement
_LONG_EDGE = 64  # grid of the points that are carried; medians need no more
_MIN_OVERLAP = 0.25  # a smaller overlap counts as this: a few lucky pixels prove nothing


@dataclass(frozen=True, eq=False)
class PosedDepth:
    """A depth map with its camera.

    Args:
        depth: z in the camera's frame, in the unit of the pose; 0 where unknown.
        intrinsics: K in pixels of `depth`, centers at +0.5.
        world_from_cam: Pose, OpenCV axes.
    """

    depth: Float[np.ndarray, "H W"]
    intrinsics: Float[np.ndarray, "3 3"]
    world_from_cam: Float[np.ndarray, "4 4"]


@dataclass(frozen=True)
class DepthAgreement:
    """Outcome of carrying the depth of one view into another.

    Args:
        overlap: Share of the carried points that land on known depth of the other view.
        agreement: Share of those whose z agrees with it; 0 where none lands.
    """

    overlap: float
    agreement: float


def depth_agreement(
    source: PosedDepth, target: PosedDepth, *, tolerance: float = TOLERANCE
) -> DepthAgreement:
    """Carry points of one view into another and compare their z with the depth found there.

    Args:
        source: Its depth is carried, on a grid of about 64 points along the long edge.
        target: Its depth is compared, at the nearest pixel.
        tolerance: Largest relative difference that counts as agreement.
    """
    height, width = source.depth.shape
    step = max(1, round(max(height, width) / _LONG_EDGE))
    rows, columns = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    z = source.depth[rows, columns].astype(np.float64)
    rows, columns, z = rows[z > 0], columns[z > 0], z[z > 0]
    if not len(z):
        return DepthAgreement(0.0, 0.0)
    K = source.intrinsics
    x, y = (columns + 0.5 - K[0, 2]) / K[0, 0] * z, (rows + 0.5 - K[1, 2]) / K[1, 1] * z
    motion = np.linalg.inv(target.world_from_cam) @ source.world_from_cam
    carried = motion[:3, :3] @ np.stack([x, y, z]) + motion[:3, 3:]
    x, y, moved = carried[:, carried[2] > 0]
    K, (height, width) = target.intrinsics, target.depth.shape
    u, v = np.floor(K[0, 0] * x / moved + K[0, 2]), np.floor(K[1, 1] * y / moved + K[1, 2])
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    seen = target.depth[v[inside].astype(int), u[inside].astype(int)]
    known = seen > 0
    difference = np.abs(moved[inside] - seen)[known]
    agree = int((difference <= tolerance * seen[known]).sum())
    landed = int(known.sum())
    return DepthAgreement(landed / len(z), agree / max(landed, _MIN_OVERLAP * len(z)))
