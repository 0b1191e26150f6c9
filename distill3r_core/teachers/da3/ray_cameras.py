"""Cameras from the ray maps of Depth Anything 3: slower than its camera decoder, often better."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError

SAMPLES, SAMPLE_SIZE = 100, 8
TRUSTED_SHARE = 0.3  # of the rays, the most confident ones, from which samples are drawn
INLIER_DISTANCE = 0.2  # on the plane z = 1 of the world's frame
FLATTEST = 1e-4  # smallest third component of a direction that can be projected on that plane


def plane_coordinates(size: tuple[int, int]) -> Float[Tensor, "h w 2"]:
    """Centers of a map's pixels in half image sides, from -1 to 1: x, then y."""
    rows, columns = size
    x = -1 + (2 * torch.arange(columns, dtype=torch.float64) + 1) / columns
    y = -1 + (2 * torch.arange(rows, dtype=torch.float64) + 1) / rows
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def camera_from_rays(
    rays: Float[Tensor, "h w 6"],
    confidence: Float[Tensor, "h w"],
    size: tuple[int, int],
    *,
    robust: bool = True,
    seed: int = 0,
) -> tuple[Float[Tensor, "3 4"], Float[Tensor, "3 3"]]:
    """`world_from_cam` and K of the camera whose rays these are.

    Directions are R K^-1 (u, v, 1) up to scale: a homography of the image plane, whose QR
    factorization gives R and K. (The published code factorizes in the other order, which is
    wrong where the principal point is not in the middle.)

    Args:
        rays: Direction and origin of each ray in the world's frame.
        confidence: Confidence of each ray.
        size: Rows and columns of the image.
        robust: Look for a homography that most rays agree with before fitting it.
        seed: Seed of the random samples.

    Raises:
        GeometryError: Too few rays can be used.
    """
    directions, origins = rays[..., :3].reshape(-1, 3).double(), rays[..., 3:].reshape(-1, 3)
    usable = directions[:, 2].abs() > FLATTEST
    weights = torch.where(usable, confidence.reshape(-1).double(), 0.0)
    if int((weights > 0).sum()) < SAMPLE_SIZE:
        raise GeometryError("too few rays for a camera")
    source = plane_coordinates((rays.shape[0], rays.shape[1])).reshape(-1, 2)
    target = directions[:, :2] / torch.where(usable, directions[:, 2], 1.0)[:, None]
    fitted = weights
    if robust:
        fitted = torch.where(_inliers(source, target, weights, seed), weights, 0.0)
    homography = fit_homography(source, target, fitted)
    rotation, inverse = _factorize(homography)
    pose = torch.cat(
        [rotation, ((weights[:, None] * origins).sum(0) / weights.sum())[:, None]], dim=1
    )
    halves = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
    normalized = torch.linalg.inv(inverse)  # K in half image sides, seen from the middle
    intrinsics = torch.eye(3, dtype=torch.float64)
    intrinsics[:2, :2] = normalized[:2, :2] * halves[:, None]
    intrinsics[:2, 2] = (normalized[:2, 2] + 1) * halves
    intrinsics[0, 1] = 0.0  # pixels are not sheared
    return pose, intrinsics


def fit_homography(
    source: Float[Tensor, "n 2"], target: Float[Tensor, "n 2"], weights: Float[Tensor, "n"]
) -> Float[Tensor, "3 3"]:
    """The homography with last entry 1 that takes `source` to `target` (weighted linear fit)."""
    x, y = source.unbind(1)
    u, v = target.unbind(1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows = torch.cat(
        [
            torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], dim=1),
            torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], dim=1),
        ]
    )
    normal = rows.T @ (torch.cat([weights, weights])[:, None] * rows)
    solution = torch.linalg.eigh(normal)[1][:, 0]  # of the smallest eigenvalue
    return (solution / solution[8]).reshape(3, 3)


def _inliers(source: Tensor, target: Tensor, weights: Tensor, seed: int) -> Tensor:
    """The rays that the best of many small samples agrees with."""
    count = max(int(TRUSTED_SHARE * len(weights)), SAMPLE_SIZE)
    trusted = weights.topk(min(count, int((weights > 0).sum()))).indices
    generator = torch.Generator().manual_seed(seed)
    best, highest = weights > 0, -1.0
    for _ in range(SAMPLES):
        chosen = trusted[torch.randperm(len(trusted), generator=generator)[:SAMPLE_SIZE]]
        homography = fit_homography(source[chosen], target[chosen], weights[chosen])
        moved = torch.cat([source, torch.ones_like(source[:, :1])], dim=1) @ homography.T
        distance = (moved[:, :2] / moved[:, 2:] - target).norm(dim=1)
        inliers = (distance < INLIER_DISTANCE) & (weights > 0)
        score = float(weights[inliers].sum())
        if score > highest:
            best, highest = inliers, score
    return best


def _factorize(homography: Float[Tensor, "3 3"]) -> tuple[Tensor, Tensor]:
    """R and K^-1 (upper triangular, last entry 1) whose product is the homography, up to scale."""
    if torch.linalg.det(homography) < 0:
        homography = -homography
    rotation, upper = torch.linalg.qr(homography)
    signs = upper.diagonal().sign()
    return rotation * signs, signs[:, None] * upper / upper[2, 2].abs()
