"""Where cameras stood, from point maps: a robust similarity per view, and how poses compare."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.geometry.similarity import apply_similarity, fit_similarity, scale_of

ROUNDS = 20  # of re-weighting; the change of the last is below 1e-4 of the scene on real views
# Residuals of this many medians get half the weight (Cauchy).
_HALF_WEIGHT = 2.0


def fit_similarity_robust(
    source: Float[Tensor, "M 3"],
    target: Float[Tensor, "M 3"],
    weights: Float[Tensor, "M"],
    *,
    rounds: int = ROUNDS,
) -> Float[Tensor, "3 4"]:
    """The similarity between two point sets of which a part may be far off.

    Iteratively re-weighted least squares with Cauchy's weights on the distance, whose width
    follows the median residual.

    Args:
        source: Finite points, in a view's own frame.
        target: The same points in the global frame, finite.
        weights: Trust in each pair, at least 0.

    Returns:
        `[sR | t]`, source to target.

    Raises:
        GeometryError: See `fit_similarity`.
    """
    similarity = fit_similarity(source, target, weights)
    for _ in range(rounds):
        distance = (apply_similarity(similarity, source) - target).norm(dim=-1)
        width = _HALF_WEIGHT * distance.median()
        if width == 0:  # half of the pairs fit exactly
            return similarity
        similarity = fit_similarity(source, target, weights / (1 + (distance / width).square()))
    return similarity


def rigid_of(similarity: Float[Tensor, "*batch 3 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The pose `[R | t]` of the camera whose local points a similarity `[sR | t]` carries."""
    pose = torch.zeros(*similarity.shape[:-2], 4, 4, dtype=similarity.dtype)
    pose[..., :3, :3] = similarity[..., :3] / scale_of(similarity)[..., None, None]
    pose[..., :3, 3] = similarity[..., 3]
    pose[..., 3, 3] = 1
    return pose


def rotation_angle(
    first: Float[Tensor, "*batch 4 4"], second: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch"]:
    """Degrees between the rotations of two poses."""
    relative = first[..., :3, :3].mT @ second[..., :3, :3]
    # atan2 of sine and cosine: the arc cosine alone loses small angles to rounding.
    skew = relative - relative.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).norm(dim=-1)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(sine, cosine).rad2deg()


def scale_from_distances(
    positions: Float[Tensor, "N 3"], known: Float[Tensor, "N 3"]
) -> tuple[float, float]:
    """The factor that turns our unit into that of known camera positions.

    All pairs of cameras vote by least squares, so it needs no common frame and two cameras are
    enough.

    Returns:
        The factor, and the root mean square over the pairs of what is left, in the known unit.
    """
    ours, theirs = torch.pdist(positions.double()), torch.pdist(known.double())
    factor = (ours * theirs).sum() / ours.square().sum()
    residual = (factor * ours - theirs).square().mean().sqrt()
    return float(factor), float(residual)
