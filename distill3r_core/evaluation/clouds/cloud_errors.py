"""Accuracy, completeness and normal consistency between two point clouds.

The definitions are those of Spann3R (arXiv:2408.16061), which CUT3R, Pi3 and Fast3R share.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.metrics import Places, places_of

NEIGHBORS = 30  # of a normal, the point itself included
_AT_ONCE = 100_000  # places whose neighbors are in memory


@dataclass(frozen=True)
class CloudErrors:
    """Errors of a predicted cloud. Normal consistencies are |cos| between normals, 0 to 1.

    Args:
        accuracy: Distance from each predicted point to the nearest true one.
        completeness: Distance from each true point to the nearest predicted one.
        normals_accuracy: Consistency of each predicted point with the nearest true one (NC1).
        normals_completeness: Of each true point with the nearest predicted one (NC2).
    """

    accuracy: Float[Tensor, " M"]
    completeness: Float[Tensor, " K"]
    normals_accuracy: Float[Tensor, " M"]
    normals_completeness: Float[Tensor, " K"]


def cloud_errors(predicted: Float[Tensor, "M 3"], truth: Float[Tensor, "K 3"]) -> CloudErrors:
    """Compare two clouds in one frame and unit, in float64.

    Raises:
        GeometryError: A cloud has fewer points than a normal needs, or some are not finite.
    """
    clouds = [places_of(cloud_array(points)) for points in (predicted, truth)]
    trees = [KDTree(places.points) for places in clouds]
    normals = [_normals(places, tree) for places, tree in zip(clouds, trees, strict=True)]
    found = []
    for here, there in ((0, 1), (1, 0)):
        points, of_point = clouds[here].points, clouds[here].of_point
        distance, nearest = trees[there].query(points, workers=torch.get_num_threads())
        cosine = np.abs((normals[here] * normals[there][nearest]).sum(axis=1))
        found += [torch.from_numpy(distance[of_point]), torch.from_numpy(cosine[of_point])]
    return CloudErrors(
        accuracy=found[0],
        normals_accuracy=found[1],
        completeness=found[2],
        normals_completeness=found[3],
    )


def cloud_array(points: Float[Tensor, "M 3"], *, least: int = NEIGHBORS) -> np.ndarray:
    """Points in float64, for SciPy.

    Raises:
        GeometryError: There are fewer points than `least`, or some are not finite.
    """
    array = points.detach().cpu().double().numpy()
    if len(array) < least:
        raise GeometryError(f"a cloud has {len(array)} points, and at least {least} are needed")
    if not np.isfinite(array).all():
        raise GeometryError("a cloud has points that are not finite")
    return array


def _normals(places: Places, tree: KDTree) -> np.ndarray:
    """Direction of least spread of the nearest points of each place; its sign is arbitrary."""
    # Neighbors of all places at once would take 30 times the memory of the cloud.
    starts = range(0, len(places.points), _AT_ONCE)
    return np.concatenate([_some_normals(places, tree, slice(at, at + _AT_ONCE)) for at in starts])


def _some_normals(places: Places, tree: KDTree, chosen: slice) -> np.ndarray:
    count = min(NEIGHBORS, len(places.points))
    _, found = tree.query(places.points[chosen], k=count, workers=torch.get_num_threads())
    nearest = np.asarray(found).reshape(-1, count)  # of one place, SciPy gives no columns
    near = places.points[nearest]
    if (places.counts == 1).all():
        near -= near.mean(axis=1, keepdims=True)
        return np.linalg.eigh(near.mT @ near).eigenvectors[:, :, 0]
    counts = places.counts[nearest]
    # Of the last place only as many points as make up the neighbors.
    counted = np.clip(NEIGHBORS - (counts.cumsum(axis=1) - counts), 0, counts)[..., None]
    near -= (counted * near).sum(axis=1, keepdims=True) / NEIGHBORS
    return np.linalg.eigh(near.mT @ (counted * near)).eigenvectors[:, :, 0]
