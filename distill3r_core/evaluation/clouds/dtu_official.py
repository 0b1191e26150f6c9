"""Accuracy and completeness of DTU as its official evaluation measures them (Jensen, CVPR 2014).

The facts are those of its Python form in Depth Anything 3, whose printed "acc" and "comp" are
swapped; here the names are right. All lengths are in millimeters.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from torch import Tensor

from distill3r_core.evaluation.clouds.cloud_errors import cloud_array

SPACING = 0.2  # least distance between two predicted points that are kept
FARTHEST = 20.0  # distances from here on are left out as outliers
MARGIN = (60.0, 120.0)  # of the box: below its lower and above its upper corner
SEED = 42


@dataclass(frozen=True)
class DtuObservation:
    """What the data set publishes of a scan beside its points.

    Args:
        plane: Scan points with plane . (x, 1) > 0 stand above the table.
    """

    box: Float[Tensor, "2 3"]  # lower and upper corner
    resolution: float  # side of a cell of the mask
    mask: Bool[Tensor, "X Y Z"]  # cells that were observed
    plane: Float[Tensor, " 4"]


@dataclass(frozen=True)
class DtuErrors:
    """Means of the distances below 20 mm; NaN where there are none."""

    accuracy: float  # from predicted points in observed cells to the scan
    completeness: float  # from scan points above the table to the predicted ones

    @property
    def overall(self) -> float:
        """Mean of accuracy and completeness."""
        return (self.accuracy + self.completeness) / 2


def dtu_errors(
    predicted: Float[Tensor, "M 3"], scan: Float[Tensor, "K 3"], observation: DtuObservation
) -> DtuErrors:
    """Thin the prediction, cut it to the box, and measure distances both ways.

    Raises:
        GeometryError: A cloud is empty or has points that are not finite.
    """
    points, true = cloud_array(predicted, least=1).copy(), cloud_array(scan, least=1)
    np.random.default_rng(SEED).shuffle(points, axis=0)
    points = _thin(points)
    low, high = observation.box.double().numpy()
    inside = (points >= low - MARGIN[0]) & (points < high + MARGIN[1])
    points = points[inside.all(axis=1)]
    mask = observation.mask.numpy()
    cells = np.around((points - low) / observation.resolution).astype(np.int64)
    on_grid = ((cells >= 0) & (cells < mask.shape)).all(axis=1)
    observed = points[on_grid][mask[tuple(cells[on_grid].T)]]
    plane = observation.plane.double().numpy()
    above = true[true @ plane[:3] + plane[3] > 0]
    return DtuErrors(
        accuracy=_mean_distance(observed, true), completeness=_mean_distance(above, points)
    )


def _thin(points: np.ndarray) -> np.ndarray:
    """Keep each point that has no kept one before it within the spacing."""
    near = KDTree(points).query_ball_point(points, SPACING, workers=torch.get_num_threads())
    keep = np.ones(len(points), dtype=bool)
    for index, neighbors in enumerate(near):
        if keep[index]:
            keep[neighbors] = False
            keep[index] = True
    return points[keep]


def _mean_distance(source: np.ndarray, target: np.ndarray) -> float:
    if not len(source) or not len(target):
        return float("nan")
    distance, _ = KDTree(target).query(source, workers=torch.get_num_threads())
    near = distance[distance < FARTHEST]
    return float(near.mean()) if len(near) else float("nan")
