"""Cameras that are given to Depth Anything 3, and its predictions in their frame and unit."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity

SHORTEST_BASELINE = 0.1
ROBUST_FROM = 10  # views from which the similarity is fitted robustly
ROUNDS = 10
SEED = 42


def normalize_cameras(cam_from_world: Float[Tensor, "S 4 4"]) -> Float[Tensor, "S 4 4"]:
    """The cameras in the first one's frame, with a median distance of 1 to it.

    The median is the lower one, the first view's 0 included, and at least 0.1: with one or two
    views it always is 0.1, whatever their baseline.
    """
    moved = cam_from_world @ invert_rigid(cam_from_world[:1])
    distance = invert_rigid(moved)[:, :3, 3].norm(dim=1).median().clamp(min=SHORTEST_BASELINE)
    normalized = moved.clone()
    normalized[:, :3, 3] = moved[:, :3, 3] / distance
    return normalized


def predicted_from_given(
    given: Float[Tensor, "S 3"], predicted: Float[Tensor, "S 3"]
) -> Float[Tensor, "3 4"]:
    """The similarity that takes given camera centers to predicted ones.

    From ten views on it is fitted to the views that the best of ten random halves agrees with.

    Raises:
        GeometryError: Fewer than three views, or their centers lie on one line.
    """
    first = fit_similarity(given, predicted)
    if len(given) < ROBUST_FROM:
        return first
    bound = float(torch.cdist(apply_similarity(first, given), predicted).amin(dim=1).median())
    generator = np.random.default_rng(SEED)
    size = max(3, (len(given) + 1) // 2)
    best, key = first, (-1, 0.0)
    for _ in range(ROUNDS):
        chosen = generator.choice(len(given), size, replace=False)
        try:
            candidate = fit_similarity(given[chosen], predicted[chosen])
        except GeometryError:  # this half of them is on one line
            continue
        errors = (apply_similarity(candidate, given) - predicted).norm(dim=1)
        inliers = errors < bound
        mean = float(errors[inliers].mean()) if inliers.any() else float("inf")
        if (int(inliers.sum()), -mean) > key and int(inliers.sum()) >= 3:
            best = fit_similarity(given[inliers], predicted[inliers])
            key = (int(inliers.sum()), -mean)
    return best
