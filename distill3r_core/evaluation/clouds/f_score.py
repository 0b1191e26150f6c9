"""F-score of point clouds at a distance, after thinning on a voxel grid.

Precision, recall and F-score as in Tanks and Temples (Knapitsch et al., SIGGRAPH 2017). Depth
Anything 3 and SpatialBench place the voxel grid differently: F-scores differ by up to 0.007.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from distill3r_core.evaluation.clouds.cloud_errors import cloud_array

GridForm = Literal["corner", "origin"]


@dataclass(frozen=True)
class FScore:
    """Distances in the unit of the clouds; shares 0 to 1."""

    accuracy: float  # mean distance from a predicted point to the nearest true one
    completeness: float
    precision: float  # share of predicted points closer to the truth than the threshold
    recall: float

    @property
    def overall(self) -> float:
        """Mean of accuracy and completeness, the symmetric Chamfer distance."""
        return (self.accuracy + self.completeness) / 2

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def f_score(
    predicted: Float[Tensor, "M 3"],
    truth: Float[Tensor, "K 3"],
    *,
    threshold: float,
    voxel: float | None = None,
    grid: GridForm = "corner",
    crop_margin: float | None = None,
) -> FScore:
    """Compare two clouds in one frame and unit.

    Args:
        predicted: Finite points; where there are none, distances are infinite and shares 0.
        truth: Likewise.
        threshold: Distances below this count for precision and recall.
        voxel: Side of the voxels whose mean points are compared; None compares all points.
        grid: Where the grid begins: "corner", half a voxel before the least coordinates of each
            cloud (Depth Anything 3, by Open3D), or "origin", in float32 (SpatialBench).
        crop_margin: Leave out predicted points farther than this outside the box of the truth.

    Raises:
        GeometryError: Some points are not finite.
    """
    mine, true = (cloud_array(points, least=0) for points in (predicted, truth))
    if crop_margin is not None and len(true):
        low, high = true.min(axis=0) - crop_margin, true.max(axis=0) + crop_margin
        mine = mine[((mine >= low) & (mine <= high)).all(axis=1)]
    if not len(mine) or not len(true):
        return FScore(np.inf, np.inf, 0.0, 0.0)
    if voxel is not None:
        mine, true = (voxel_means(points, voxel, grid) for points in (mine, true))
    workers = torch.get_num_threads()
    to_truth, _ = KDTree(true).query(mine, workers=workers)
    to_predicted, _ = KDTree(mine).query(true, workers=workers)
    return FScore(
        accuracy=float(to_truth.mean()),
        completeness=float(to_predicted.mean()),
        precision=float((to_truth < threshold).mean()),
        recall=float((to_predicted < threshold).mean()),
    )


def voxel_means(
    points: Float[np.ndarray, "M 3"], voxel: float, grid: GridForm
) -> Float[np.ndarray, "K 3"]:
    """The mean of the points of each voxel that has some; see `f_score` for the grid."""
    if grid == "origin":
        cells = np.floor(points.astype(np.float32) / np.float32(voxel))
    else:
        cells = np.floor((points - (points.min(axis=0) - voxel / 2)) / voxel)
    _, index, count = np.unique(
        cells.astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    sums = np.zeros((len(count), 3))
    np.add.at(sums, index.ravel(), points)
    return sums / count[:, None]
