"""How far a predicted point map is from the truth: accuracy, completeness and scale of a view.

The definitions are those of the Spann3R line of evaluations (arXiv:2408.16061): both clouds are
cut by the same mask, that of the truth, and distances go to the nearest neighbour, so they depend
on the density of the grid: figures of different grids are not comparable.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from distill3r_core.geometry.similarity import apply_similarity, fit_similarity, scale_of

LEAF = 24  # points; the fastest of a few on maps of 85 thousand
_MIXED = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)  # odd


@dataclass(frozen=True)
class Places:
    """The places of points, each once.

    Args:
        of_point: Which place each point is at.
        counts: Points at each place.
    """

    points: Float[np.ndarray, "K 3"]
    of_point: Int[np.ndarray, " M"]
    counts: Int[np.ndarray, " K"]


@dataclass(frozen=True)
class AlignedClouds:
    """A predicted and a true point cloud in one frame and unit.

    Args:
        norm_ratio: Median distance of the true points to the origin of their frame over that of
            the predicted ones before the alignment. It does not shrink as errors grow, as a
            least-squares scale does.
    """

    predicted: Float[Tensor, "M 3"]  # predicted points after the alignment
    truth: Float[Tensor, "K 3"]  # True points
    accuracy: Float[Tensor, " M"]  # distance from each predicted point to the nearest true one
    completeness: Float[Tensor, " K"]  # distance from each true point to the nearest predicted one
    scale: float  # the factor on the prediction that the alignment found
    norm_ratio: float


@dataclass(frozen=True)
class ViewErrors:
    """Errors of one view after its best similarity to the truth.

    Args:
        accuracy: Median distance from a predicted point to the nearest true one, in the truth's
            unit.
        norm_ratio: Median distance of the true points to their camera over that of the predicted
            ones. It does not shrink as errors grow, as the least-squares scale does.
    """

    accuracy: float
    completeness: float  # median distance from a true point to the nearest predicted one
    scale: float  # the factor on the prediction that fits the truth best (least squares, Umeyama)
    norm_ratio: float
    points: int  # how many pixels counted


@dataclass(frozen=True)
class ScaleSummary:
    """The scales of several views or sequences.

    Args:
        log_spread: Population standard deviation of log s: 0 where one constant factor would make
            the model metric.
    """

    geometric_mean: float
    arithmetic_mean: float  # mean(s), as the Distill3R paper prints it
    log_spread: float
    log_error: float  # mean(|log s|): 0 where every scale is right


def nearest_distances(
    source: Float[Tensor, "M 3"], target: Float[Tensor, "K 3"]
) -> Float[Tensor, " M"]:
    """The distance from each source point to the nearest target point, in float64.

    Args:
        source: Any number of finite points.
        target: At least one finite point, in the same unit and frame.
    """
    points, queries = _as_array(target), _as_array(source)
    axes = _principal_axes(points)
    points = places_of(points).points
    # A tree cut through the middle of space, not of the points: on surfaces seen by a camera its
    # queries took a fifth of the time.
    tree = KDTree(_in_axes(points, axes), leafsize=LEAF, compact_nodes=False, balanced_tree=False)
    distances, _ = tree.query(_in_axes(queries, axes), workers=torch.get_num_threads())
    return torch.from_numpy(np.asarray(distances, dtype=np.float64))


def places_of(points: Float[np.ndarray, "M 3"]) -> Places:
    """The places of points, to the last bit.

    A search tree cannot split points at one place, and a query beside them measures every one:
    the map of a network that has learned nothing may have all of its points there.

    Args:
        points: Float64. Where no two are at one place, the places are these, in their order.
    """
    # Equal points have equal mixed bits: where there are no equal ones, nothing else is sorted.
    with np.errstate(over="ignore"):
        mixed = (np.ascontiguousarray(points).view(np.uint64) * _MIXED).sum(axis=1)
    if len(np.unique(mixed)) == len(points):
        return Places(points, np.arange(len(points)), np.ones(len(points), dtype=np.int64))
    places, of_point, counts = np.unique(points, axis=0, return_inverse=True, return_counts=True)
    return Places(places, of_point.reshape(-1), counts)


def _principal_axes(points: np.ndarray) -> np.ndarray:
    """Directions of the spread of points, in columns.

    A search bounds the distance to a cell of the tree along the axes alone. Points near a plane
    that is oblique to them look thick to it, and points off that plane visited 30 times the cells.
    """
    centered = points - points.mean(axis=0)
    return np.linalg.eigh(centered.T @ centered).eigenvectors


def _in_axes(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Coordinates of points along axes."""
    # Column by column: a product of matrices rounds a row by where it stands, and a point would be
    # at a distance from itself.
    x, y, z = points.T
    return np.stack([x * a + y * b + z * c for a, b, c in axes.T], axis=1)


def align_view(
    predicted: Float[Tensor, "H W 3"],
    truth: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W"],
) -> AlignedClouds:
    """Carry a view's prediction onto the truth by the best similarity, and measure distances.

    The similarity fits corresponding pixels best (least squares, Umeyama); then nearest neighbors
    are searched both ways.

    Args:
        predicted: In any frame and unit; finite inside the mask.
        truth: In its camera's frame, on the same grid; finite inside the mask.
        mask: Pixels where the truth is known; at least three points that are not on a line.

    Raises:
        GeometryError: The masked points do not fix a similarity, or are not finite.
    """
    mine, true = predicted[mask].double(), truth[mask].double()
    similarity = fit_similarity(mine, true)
    moved = apply_similarity(similarity, mine)
    return AlignedClouds(
        predicted=moved,
        truth=true,
        accuracy=nearest_distances(moved, true),
        completeness=nearest_distances(true, moved),
        scale=float(scale_of(similarity)),
        norm_ratio=_median(true.norm(dim=-1)) / _median(mine.norm(dim=-1)),
    )


def view_errors(
    predicted: Float[Tensor, "H W 3"],
    truth: Float[Tensor, "H W 3"],
    mask: Bool[Tensor, "H W"],
) -> ViewErrors:
    """Accuracy, completeness and scale of one view, after `align_view`.

    Raises:
        GeometryError: See `align_view`.
    """
    clouds = align_view(predicted, truth, mask)
    return ViewErrors(
        accuracy=_median(clouds.accuracy),
        completeness=_median(clouds.completeness),
        scale=clouds.scale,
        norm_ratio=clouds.norm_ratio,
        points=len(clouds.truth),
    )


def summarize_scales(scales: Sequence[float]) -> ScaleSummary:
    """Means and spread of scales, each greater than 0; at least one."""
    logs = [math.log(scale) for scale in scales]
    mean = math.fsum(logs) / len(logs)
    return ScaleSummary(
        geometric_mean=math.exp(mean),
        arithmetic_mean=math.fsum(scales) / len(scales),
        log_spread=math.sqrt(math.fsum((log - mean) ** 2 for log in logs) / len(logs)),
        log_error=math.fsum(map(abs, logs)) / len(logs),
    )


def _median(values: Float[Tensor, " M"]) -> float:
    # Not torch.median, which takes the lower of the two middle values.
    return float(np.median(values.numpy()))


def _as_array(points: Float[Tensor, "M 3"]) -> np.ndarray:
    return points.detach().cpu().double().numpy()
