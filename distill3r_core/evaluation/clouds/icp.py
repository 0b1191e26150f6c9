"""Point-to-point ICP without scale (Besl and McKay, PAMI 1992), with the stop rule of Open3D."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from distill3r_core.evaluation.clouds.cloud_errors import cloud_array

ROUNDS = 30
STOP = 1e-6


@dataclass(frozen=True)
class IcpResult:
    """A rigid motion, and how well it fits."""

    target_from_source: Float[Tensor, "4 4"]
    points: Float[Tensor, "M 3"]  # the moved source, float64
    fitness: float  # share of source points with a target point within the threshold
    inlier_rmse: float  # of their distances; 0 where there are none


def icp(
    source: Float[Tensor, "M 3"],
    target: Float[Tensor, "K 3"],
    *,
    threshold: float,
    rounds: int = ROUNDS,
) -> IcpResult:
    """Move a cloud onto another one, from where it is.

    Stops after `rounds`, when fitness and RMSE both change by less than 1e-6, or with fewer than
    three pairs of points.

    Args:
        source: Finite points, at least one.
        target: Finite points in the same unit, at least one.
        threshold: Points pair with the nearest target point closer than this.

    Raises:
        GeometryError: A cloud is empty or not finite.
    """
    moved, fixed = cloud_array(source, least=1), cloud_array(target, least=1)
    tree = KDTree(fixed)
    motion = np.eye(4)

    def pairs() -> tuple[np.ndarray, np.ndarray, float, float]:
        distance, nearest = tree.query(moved, workers=torch.get_num_threads())
        near = distance < threshold
        rmse = float(np.sqrt(np.square(distance[near]).mean())) if near.any() else 0.0
        return np.asarray(near), np.asarray(nearest), float(near.mean()), rmse

    near, nearest, fitness, rmse = pairs()
    for _ in range(rounds):
        if near.sum() < 3:
            break
        step = _rigid(moved[near], fixed[nearest[near]])
        motion = step @ motion
        moved = moved @ step[:3, :3].T + step[:3, 3]
        before = fitness, rmse
        near, nearest, fitness, rmse = pairs()
        if abs(before[0] - fitness) < STOP and abs(before[1] - rmse) < STOP:
            break
    return IcpResult(torch.from_numpy(motion), torch.from_numpy(moved), fitness, rmse)


def _rigid(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation and translation of least squares; of points on a line, one of the best."""
    centers = source.mean(axis=0), target.mean(axis=0)
    u, _, v_t = np.linalg.svd((target - centers[1]).T @ (source - centers[0]))
    rotation = (u * [1, 1, np.sign(np.linalg.det(u @ v_t))]) @ v_t
    step = np.eye(4)
    step[:3, :3] = rotation
    step[:3, 3] = centers[1] - rotation @ centers[0]
    return step
