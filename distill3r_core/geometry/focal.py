"""The focal length that a camera's own points were seen with."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.cameras import pixel_grid, rays
from distill3r_core.geometry.scale import masked_median

SMALLEST_DISTANCE = 1e-8  # pixels; keeps the weight of a perfect vote finite


def estimate_focal(
    points: Float[Tensor, "*batch H W 3"],
    valid_mask: Bool[Tensor, "*batch H W"] | None = None,
    *,
    center: float = 0.5,
    rounds: int = 100,
) -> Float[Tensor, "*batch"]:
    """The focal length, in pixels, of a pinhole camera with its principal point in the middle.

    Minimises the sum of |q - f (x, y) / z| over the pixels q by re-weighted least squares
    (Weiszfeld's algorithm), which a few wild points hardly move.

    Args:
        points: In the camera's own frame, in any unit. Points whose (x, y) / z is not finite count
            as lying on the optical axis, which adds nothing to either sum.
        valid_mask: The pixels that vote; None: all.
        center: Where in its pixel a point was seen.

    Raises:
        GeometryError: A view has no vote that tells: all off the mask, or all on the axis.
    """
    pixels, slopes, counts = _votes(points, valid_mask, center)
    focal = _least_squares(pixels, slopes, counts)
    for _ in range(rounds):
        distance = (pixels - focal[..., None, None] * slopes).norm(dim=-1)
        focal = _least_squares(pixels, slopes, counts / distance.clamp(min=SMALLEST_DISTANCE))
    if not (focal.isfinite() & (focal > 0)).all():
        raise GeometryError("no focal length fits these points")
    return focal.to(points.dtype)


def estimate_focal_median(
    points: Float[Tensor, "*batch H W 3"],
    valid_mask: Bool[Tensor, "*batch H W"] | None = None,
    *,
    center: float = 0.5,
) -> Float[Tensor, "*batch"]:
    """The median of all votes u z / x and v z / y for the focal length, in pixels.

    Args and assumptions are those of `estimate_focal`; votes that are NaN are left out.

    Raises:
        GeometryError: A view has no vote.
    """
    height, width = points.shape[-3:-1]
    pixels = _centered((height, width), center, points)
    votes = (pixels * points[..., 2:] / points[..., :2]).flatten(-3)  # (..., H*W*2)
    counts = ~votes.isnan()
    if valid_mask is not None:
        counts &= valid_mask[..., None].expand(points[..., :2].shape).flatten(-3)
    focal = masked_median(votes, counts)
    if focal.isnan().any():
        raise GeometryError("no pixel votes for a focal length")
    return focal


def _votes(points: Tensor, valid_mask: Tensor | None, center: float) -> tuple[Tensor, ...]:
    """Pixels from the principal point and slopes (..., M, 2), and who votes (..., M)."""
    height, width = points.shape[-3:-1]
    pixels = _centered((height, width), center, points.double()).flatten(0, 1)
    slopes = (points[..., :2].double() / points[..., 2:].double()).flatten(-3, -2)
    slopes = slopes.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    counts = torch.ones_like(slopes[..., 0])
    if valid_mask is not None:
        counts = valid_mask.flatten(-2).double()
    return pixels, slopes, counts


def _centered(size: tuple[int, int], center: float, like: Tensor) -> Tensor:
    height, width = size
    middle = torch.tensor([width / 2, height / 2], dtype=like.dtype, device=like.device)
    return pixel_grid(size, center=center, like=like) - middle


def _least_squares(pixels: Tensor, slopes: Tensor, weights: Tensor) -> Tensor:
    along = (weights * (slopes * pixels).sum(-1)).sum(-1)
    return along / (weights * slopes.square().sum(-1)).sum(-1)


def focal_ratio(
    points: Float[Tensor, "*batch H W 3"],
    valid_mask: Bool[Tensor, "*batch H W"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    *,
    rounds: int = 10,
) -> Float[Tensor, "*batch"]:
    """The focal length that points were seen with, as a multiple of that of a known camera.

    Minimises the sum of |a - k (x, y) / z| over the pixels, where a is the true slope of a pixel's
    ray: `estimate_focal` in the units of the known camera, whose pixels need not be square.

    Args:
        points: In each camera's own frame, in any unit.
        valid_mask: Pixels that vote.
        intrinsics: True K in pixels of the map, centers at +0.5.

    Returns:
        k: 1 where the rays of the points are those of the camera; not finite where no pixel tells.
    """
    height, width = points.shape[-3:-1]
    true = rays(intrinsics.double(), (height, width))[..., :2].flatten(-3, -2)
    _, slopes, counts = _votes(points, valid_mask, 0.5)
    ratio = _least_squares(true, slopes, counts)
    for _ in range(rounds):
        distance = (true - ratio[..., None, None] * slopes).norm(dim=-1)
        ratio = _least_squares(true, slopes, counts / distance.clamp(min=SMALLEST_DISTANCE))
    return ratio
