"""Similarities between two sets of cameras: by their centers, as benchmarks do, or their poses."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity

RANSAC_DRAWS = 10
RANSAC_SEED = 42
_ROUNDING = 1e-9  # of the spread of camera centers; nearer than this, rounding decides
_MIN_SPREAD = 1e-6  # of camera centers, relative to their distance from the anchor


def align_centers_ransac(
    source: Float[Tensor, "N 3"],
    target: Float[Tensor, "N 3"],
    *,
    draws: int = RANSAC_DRAWS,
    seed: int = RANSAC_SEED,
) -> Float[Tensor, "3 4"]:
    """The similarity of the best of a few random halves of the cameras (Depth Anything 3).

    A camera is an inlier where its distance to its true center is at most the median distance of
    the centers to the nearest true one after one fit to all. The draw with most inliers wins, of
    equal ones that with the lowest mean error of inliers, and the similarity is fitted to these.

    Args:
        source: Predicted centers, finite.
        target: True centers.

    Returns:
        `[sR | t]`, source to target, float64.

    Raises:
        GeometryError: The centers do not fix a similarity; see `fit_similarity`.
    """
    x, y = source.double(), target.double()
    everything = apply_similarity(fit_similarity(x, y), x)
    threshold = float(np.median(torch.cdist(everything, y).min(dim=1).values.numpy()))
    # Of exact centers about half would be inliers, by luck: too few, where there are few.
    threshold = max(threshold, _ROUNDING * float((y - y.mean(0)).norm()))
    random = np.random.default_rng(seed)
    best: tuple[int, float] | None = None
    inliers = torch.ones(len(x), dtype=torch.bool)
    for _ in range(draws):
        drawn = random.choice(len(x), max(3, (len(x) + 1) // 2), replace=False)
        try:
            similarity = fit_similarity(x[drawn], y[drawn])
        except GeometryError:
            continue  # this half of the cameras stands on a line
        errors = (apply_similarity(similarity, x) - y).norm(dim=-1)
        near = errors <= threshold
        score = (int(near.sum()), -float(errors[near].mean()))
        if best is None or score > best:
            best, inliers = score, near
    return fit_similarity(x[inliers], y[inliers])


def spread_ratio(source: Float[Tensor, "N 3"], target: Float[Tensor, "N 3"]) -> float:
    """The scale of SpatialBench's Procrustes alignment: the ratio of root sums of squares.

    Both sums are taken about the mean of the centers. It needs no correspondence of directions and
    does not shrink as errors grow. 1 where neither set of centers spreads, and NaN or infinity
    where only the target does.
    """
    sums = [(points.double() - points.double().mean(0)).norm() for points in (source, target)]
    return 1.0 if not any(sums) else float(sums[1] / sums[0])


def align_centers_procrustes(
    source: Float[Tensor, "N 3"], target: Float[Tensor, "N 3"]
) -> Float[Tensor, "3 4"]:
    """The rotation of least squares with the scale of `spread_ratio` (SpatialBench).

    Raises:
        GeometryError: See `fit_similarity`.
    """
    x, y = source.double(), target.double()
    fitted = fit_similarity(x, y)[:, :3]
    linear = spread_ratio(x, y) * fitted / torch.linalg.det(fitted).pow(1 / 3)
    return torch.cat([linear, (y.mean(0) - linear @ x.mean(0))[:, None]], dim=-1)


def fit_world(
    anchor_from_cam: Float[Tensor, "N 4 4"],
    world_from_cam: Float[Tensor, "N 4 4"],
    *,
    scale: float | None = None,
) -> Float[Tensor, "3 4"] | None:
    """The similarity `[sR | t]` that carries the anchor's frame into the world.

    The rotation is the mean of those of the cameras, so that few cameras on a line determine it;
    scale and translation carry the camera centers onto each other in the least squares.

    Args:
        anchor_from_cam: Poses by a model, in any unit, float64.
        world_from_cam: The true poses of the same cameras.
        scale: The unit of the world in that of the model, where it is known.

    Returns:
        The similarity; None where the scale is not known and the cameras are at one place.
    """
    turned = (world_from_cam[:, :3, :3] @ anchor_from_cam[:, :3, :3].mT).mean(0)
    u, _, vt = torch.linalg.svd(turned)
    signs = torch.ones(3, dtype=turned.dtype)
    signs[2] = torch.linalg.det(u @ vt).sign()
    rotation = u @ torch.diag(signs) @ vt
    source, target = anchor_from_cam[:, :3, 3], world_from_cam[:, :3, 3]
    middle, wanted = source.mean(0), target.mean(0)
    if scale is None:
        spread = (source - middle).square().sum()
        if not spread > (_MIN_SPREAD * source.norm(dim=-1).max()) ** 2:
            return None
        scale = float((((source - middle) @ rotation.T) * (target - wanted)).sum() / spread)
        if not scale > 0:
            return None
    shift = wanted - scale * rotation @ middle
    return torch.cat([scale * rotation, shift[:, None]], dim=1)
