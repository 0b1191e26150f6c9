"""Metrics of camera poses: RRA, RTA, AUC, medians of pairs, ATE and RPE, in every published form.

They need the true poses and predicted similarities of at least two views. A pose that is not
finite fails its pairs, and makes ATE and RPE of its sequence NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
    AucForm,
    PairErrors,
    PoseForm,
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


@dataclass(frozen=True)
class PoseRules:
    """How poses are compared; figures of different rules do not compare.

    Args:
        form: What the relative pose of two cameras is; see `geometry.pose_errors`.
        auc: How the area under the curve is summed.
        relative: Whether RPE is the root mean square or the mean over frames.
    """

    name: str
    form: PoseForm
    auc: AucForm = "bins"
    relative: Literal["rms", "mean"] = "rms"

    def words(self) -> dict[str, str]:
        """The rules, for a result file."""
        sums = {
            "bins": "bins of one degree",
            "histc": "T + 1 bins up to T degrees (torch.histc)",
            "integral": "the exact integral",
        }
        return {
            "pose_form": _FORMS[self.form],
            "auc": f"{sums[self.auc]}; pairs that are not finite or have no baseline fail",
            "ate, rpe": "after one similarity of the camera centers; ATE root mean square, RPE "
            + ("root mean square" if self.relative == "rms" else "mean"),
        }


_FORMS = {
    text.partition(":")[0]: text
    for text in (
        "vggt: inv(T_i) T_j of camera-to-world poses T, all pairs i < j",
        "fast3r: as vggt, the angle linear below 0.81 degrees",
        "pi3: inv(T_j) T_i, the inverse of vggt's",
        "da3: T_i inv(T_j) of poses in the frame of the first camera; compares with no other",
    )
}


def pose_metrics(rules: PoseRules) -> tuple[Metric, ...]:
    """All metrics of poses by some rules, under the same names for all."""

    def pairs(comparison: Comparison) -> PairErrors | None:
        poses = _poses(comparison)
        return None if poses is None else pair_errors(*poses, form=rules.form)

    def of_pairs(name: str) -> Callable[[Comparison], Sequence[float] | None]:
        def measure(comparison: Comparison) -> Sequence[float] | None:
            errors = pairs(comparison)
            return None if errors is None else getattr(errors, name).tolist()

        return measure

    return (
        *(
            Metric(
                f"{name}_{angle}",
                f"{name.upper()}@{angle}",
                SHARE,
                "higher",
                of_pairs(errors),
                _share(float(angle)),
                mean,
                of_poses=True,
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
                of_pairs("largest"),
                _area(angle, rules.auc),
                mean,
                of_poses=True,
            )
            for angle in AREAS
        ),
        *(
            Metric(
                f"{name}_median",
                f"{heading} (deg)",
                DEGREES,
                "lower",
                of_pairs(name),
                _median,
                mean,
                ".2f",
                of_poses=True,
            )
            for name, heading in (("rotation", "rot."), ("translation", "trans."))
        ),
        *(
            Metric(
                name, heading, unit, "lower", _of_frames(errors), reduce, mean, ".2f",
                of_poses=True,
            )
            for name, heading, unit, errors, reduce in (
                ("ate", "ATE", CENTIMETERS, "absolute", _rmse),
                ("rpe_t", "RPE", CENTIMETERS, "relative_translation", _relative(rules)),
                ("rpe_r", "RPE, rotation", DEGREES, "relative_rotation", _relative(rules)),
            )
        ),
    )  # fmt: skip


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


def _area(threshold: int, form: AucForm) -> Reduction:
    return lambda values: area_under_curve(
        torch.tensor(values, dtype=torch.float64), threshold, form=form
    )


def _median(values: Sequence[float]) -> float:
    # A pair that failed is infinitely wrong: the median says so once half of them failed.
    return float(np.median(np.nan_to_num(np.array(values), nan=np.inf)))


def _rmse(values: Sequence[float]) -> float:
    return root_mean_square(torch.tensor(values, dtype=torch.float64))


def _relative(rules: PoseRules) -> Reduction:
    return _rmse if rules.relative == "rms" else mean


VGGT = PoseRules("vggt", "vggt")
FAST3R = PoseRules("fast3r", "fast3r", auc="histc")
PI3 = PoseRules("pi3", "pi3")
DA3 = PoseRules("da3", "da3")
SPATIALBENCH = PoseRules("spatialbench", "da3", relative="mean")
POSE_RULES = (VGGT, FAST3R, PI3, DA3, SPATIALBENCH)
