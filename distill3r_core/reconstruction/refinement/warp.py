"""One view seen from another: what its points should look like there, and how that changes.

Direct image alignment (Lucas and Kanade, 1981; Engel et al., Direct Sparse Odometry, PAMI 2018),
with a depth term as in RGB-D odometry (Kerl et al., 2013).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from distill3r_core.reconstruction.refinement.pyramid import Level

NEAREST = 0.05  # share of a view's median depth below which a point is behind the camera


@dataclass(frozen=True, eq=False)
class PairStates:
    """Directed pairs of views, and what is estimated of them.

    Args:
        source: Views whose points are carried.
        target: Views that they are carried into.
        motion: target_from_source, in the unit of depths times their scales.
        source_scale: log of the factor of the source's depth.
        target_scale: The same of the target's depth.
        focal: log of the factor of all focal lengths.
    """

    source: Int64[Tensor, " P"]
    target: Int64[Tensor, " P"]
    motion: Float[Tensor, "P 3 4"]
    source_scale: Float[Tensor, " P"]
    target_scale: Float[Tensor, " P"]
    focal: Float[Tensor, " P"]


@dataclass(frozen=True, eq=False)
class Warp:
    """The source's pixels as they are seen in the target.

    Args:
        found: Brightness found in the target.
        own: Brightness of the source.
        depth: log of z in the target's camera minus log of the depth found there.
        seen: Pixels whose points land on known pixels of the target.
        brightness_slopes: Derivatives of the brightness found in the target by the twist (6) that
            is applied after the motion, by `source_scale`, `target_scale` and `focal`. None: not
            asked for.
        depth_slopes: The same of `depth`.
    """

    found: Float[Tensor, "P M"]
    own: Float[Tensor, "P M"]
    depth: Float[Tensor, "P M"]
    seen: Bool[Tensor, "P M"]
    brightness_slopes: Float[Tensor, "9 P M"] | None
    depth_slopes: Float[Tensor, "9 P M"] | None


def warp(level: Level, pairs: PairStates, *, slopes: bool = True, step: int = 1) -> Warp:
    """Carry the source's points into the target and read what is there.

    Args:
        level: The views.
        pairs: Their motions, scales and focal lengths.
        slopes: Whether derivatives are computed.
        step: Every so many rows and columns of the source are carried.
    """
    dtype = level.gray.dtype
    grid = (slice(None), slice(step // 2, None, step), slice(step // 2, None, step))
    growth = pairs.focal.to(dtype).exp()[:, None]
    directions = level.rays[grid][pairs.source].flatten(1, 2)  # (P, M, 3)
    depth = level.depth[grid][pairs.source].flatten(1)
    depth = depth * pairs.source_scale.to(dtype).exp()[:, None]
    own = level.gray[grid][pairs.source].flatten(1)
    usable = level.mask[grid][pairs.source].flatten(1)
    motion = pairs.motion.to(dtype)
    x, y = directions[..., 0] * depth / growth, directions[..., 1] * depth / growth
    rotation = motion[:, :, :3]
    # Turned points before the shift: the derivative by the log of the source's scale.
    turned = [
        rotation[:, k, 0, None] * x + rotation[:, k, 1, None] * y + rotation[:, k, 2, None] * depth
        for k in range(3)
    ]
    X, Y, Z = (turned[k] + motion[:, k, 3, None] for k in range(3))
    middle = level.middle[pairs.source] * pairs.source_scale.to(dtype).exp()
    front = NEAREST * middle[:, None] < Z
    Z = torch.where(front, Z, torch.ones_like(Z))
    K = level.intrinsics[pairs.target]
    fx, fy = K[:, 0, 0, None] * growth, K[:, 1, 1, None] * growth
    a, b = fx * X / Z, fy * Y / Z
    u, v = a + K[:, 0, 2, None], b + K[:, 1, 2, None]
    found = _read(level.sampled, pairs.target, u, v)
    seen = usable & front & (found[6] > 0.99)
    log_depth = Z.log() - pairs.target_scale.to(dtype)[:, None] - found[3]
    if not slopes:
        return Warp(found[0], own, log_depth, seen, None, None)
    bent = (X, Y, Z, turned, x, y, rotation)
    zero = torch.zeros_like(Z)
    brightness_slopes = _slopes(found[1], found[2], zero, zero, fx, fy, a, b, bent)
    depth_slopes = _slopes(-found[4], -found[5], 1 / Z, zero - 1, fx, fy, a, b, bent)
    return Warp(found[0], own, log_depth, seen, brightness_slopes, depth_slopes)


def _slopes(
    du: Tensor, dv: Tensor, dz: Tensor, by_target: Tensor, fx: Tensor, fy: Tensor, a: Tensor,
    b: Tensor, bent: tuple,
) -> Float[Tensor, "9 P M"]:  # fmt: skip
    """Derivatives of a quantity from those by the pixel and by z."""
    X, Y, Z, turned, x, y, rotation = bent
    by_x, by_y = du * fx / Z, dv * fy / Z
    by_z = dz - (du * a + dv * b) / Z
    by_source = by_x * turned[0] + by_y * turned[1] + by_z * turned[2]
    # A longer focal length brings the source's points nearer to its axis, and spreads them in the
    # target's image.
    inward = [rotation[:, k, 0, None] * x + rotation[:, k, 1, None] * y for k in range(3)]
    by_focal = du * a + dv * b - (by_x * inward[0] + by_y * inward[1] + by_z * inward[2])
    return torch.stack(
        [
            Y * by_z - Z * by_y, Z * by_x - X * by_z, X * by_y - Y * by_x,
            by_x, by_y, by_z, by_source, by_target, by_focal,
        ]
    )  # fmt: skip


def _read(
    planes: Float[Tensor, "N C H W"], views: Int64[Tensor, " P"], u: Tensor, v: Tensor
) -> Float[Tensor, "C P M"]:
    """Bilinear values at pixels (u, v), zero outside."""
    height, width = planes.shape[-2:]
    grid = torch.stack([2 * u / width - 1, 2 * v / height - 1], dim=-1).clamp(-4, 4)
    found = functional.grid_sample(
        planes[views], grid[:, None], mode="bilinear", align_corners=False
    )
    return found[:, :, 0].movedim(1, 0)
