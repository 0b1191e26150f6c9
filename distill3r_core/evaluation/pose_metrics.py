"""Metrics of camera poses: RRA, RTA, AUC, medians of pairs (the "vggt" form), ATE and RPE.

They need the true poses and predicted similarities of at least two views. A pose that is not
finite fails its pairs, and makes ATE and RPE of its sequence NaN.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    DEGREES,
    SHARE,
    Comparison,
    Metric,
    Reduction,
    mean,
)
from distill3r_core.geometry.pose_errors import (
    PairErrors,
    area_under_curve,
    pair_errors,
    share_below,
)
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.trajectory import (
    TrajectoryErrors,
    root_mean_square,
    trajectory_errors,
)

THRESHOLDS = (5, 15, 30)  # degrees, of RRA and RTA
AREAS = (3, 5, 15, 30)  # degrees, of AUC


def _of_pairs(name: str) -> Callable[[Comparison], Sequence[float] | None]:
    """A measure: errors of all pairs of views of a sequence, degrees."""

    def measure(comparison: Comparison) -> Sequence[float] | None:
        poses = _poses(comparison)
        if poses is None:
            return None
        errors: PairErrors = pair_errors(*poses)
        return getattr(errors, name).tolist()

    return measure


def _of_frames(name: str) -> Callable[[Comparison], Sequence[float] | None]:
    """A measure: errors of the trajectory, frame by frame."""

    def measure(comparison: Comparison) -> Sequence[float] | None:
        poses = _poses(comparison)
        if poses is None:
            return None
        errors: TrajectoryErrors = trajectory_errors(*poses)
        return getattr(errors, name).tolist()

    return measure


def _poses(comparison: Comparison) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Predicted and true `world_from_cam`, (N, 4, 4); None where there are none to compare."""
    similarities, truth = comparison.maps.global_from_local, comparison.truth.poses
    if similarities is None or truth is None or len(truth) < 2:
        return None
    return rigid_of(similarities.double()), truth.double()


def _share(threshold: float) -> Reduction:
    return lambda values: share_below(torch.tensor(values, dtype=torch.float64), threshold)


def _area(threshold: int) -> Reduction:
    return lambda values: area_under_curve(torch.tensor(values, dtype=torch.float64), threshold)


def _median(values: Sequence[float]) -> float:
    # A pair that failed is infinitely wrong: the median says so once half of them failed.
    return float(np.median(np.nan_to_num(np.array(values), nan=np.inf)))


def _rmse(values: Sequence[float]) -> float:
    return root_mean_square(torch.tensor(values, dtype=torch.float64))


POSE_METRICS: tuple[Metric, ...] = (
    *(
        Metric(
            f"{name}_{angle}",
            f"{name.upper()}@{angle}",
            SHARE,
            "higher",
            _of_pairs(errors),
            _share(float(angle)),
            mean,
        )
        for name, errors in (("rra", "rotation"), ("rta", "translation"))
        for angle in THRESHOLDS
    ),
    *(
        Metric(
            f"auc_{angle}",
            f"AUC@{angle}",
            SHARE,
            "higher",
            _of_pairs("largest"),
            _area(angle),
            mean,
        )
        for angle in AREAS
    ),
    *(
        Metric(f"{name}_median", name, DEGREES, "lower", _of_pairs(name), _median, mean, ".2f")
        for name in ("rotation", "translation")
    ),
    *(
        Metric(name, heading, unit, "lower", _of_frames(errors), _rmse, mean, ".2f")
        for name, heading, unit, errors in (
            ("ate", "ATE", CENTIMETERS, "absolute"),
            ("rpe_translation", "RPE", CENTIMETERS, "relative_translation"),
            ("rpe_rotation", "RPE, rotation", DEGREES, "relative_rotation"),
        )
    ),
)
