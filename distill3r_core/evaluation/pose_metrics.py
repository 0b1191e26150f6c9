"""Metrics of camera poses: RRA, RTA, AUC, medians of pairs, ATE and RPE, in every published form.

They need the true poses and predicted similarities of at least two views. A pose that is not
finite fails its pairs, and makes ATE and RPE of its sequence NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

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

THRESHOLDS = (3, 5, 15, 30)  # degrees, of RRA, RTA and AUC


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
    pairs = partial(pair_errors, form=rules.form)
    rmse = _reduction(root_mean_square)
    relative = rmse if rules.relative == "rms" else mean
    return (
        *(
            Metric(
                f"{name}_{angle}",
                f"{name.upper()}@{angle}",
                SHARE,
                "higher",
                _measure(pairs, errors),
                _reduction(partial(share_below, threshold=float(angle))),
                mean,
                of_poses=True,
            )
            for name, errors in (("rra", "rotation"), ("rta", "translation"))
            for angle in THRESHOLDS
        ),
        *(
            Metric(
                f"auc_{angle}",
                f"AUC @{angle}",
                SHARE,
                "higher",
                _measure(pairs, "largest"),
                _reduction(partial(area_under_curve, threshold=angle, form=rules.auc)),
                mean,
                of_poses=True,
            )
            for angle in THRESHOLDS
        ),
        *(
            Metric(
                f"{name}_median",
                f"{heading} (deg)",
                DEGREES,
                "lower",
                _measure(pairs, name),
                _median,
                mean,
                ".2f",
                of_poses=True,
            )
            for name, heading in (("rotation", "rot."), ("translation", "trans."))
        ),
        *(
            Metric(
                name, heading, unit, "lower", _measure(trajectory_errors, errors), reduce, mean,
                ".2f", of_poses=True,
            )
            for name, heading, unit, errors, reduce in (
                ("ate", "ATE", CENTIMETERS, "absolute", rmse),
                ("rpe_t", "RPE", CENTIMETERS, "relative_translation", relative),
                ("rpe_r", "RPE, rotation", DEGREES, "relative_rotation", relative),
            )
        ),
    )  # fmt: skip


def _measure(
    errors: Callable[[Tensor, Tensor], PairErrors | TrajectoryErrors], name: str
) -> Callable[[Comparison], Sequence[float] | None]:
    """One field of the errors of the predicted poses; None where there are none to compare."""

    def measure(comparison: Comparison) -> Sequence[float] | None:
        similarities, truth = comparison.maps.global_from_local, comparison.truth.poses
        if similarities is None or truth is None or len(truth) < 2:
            return None
        found = errors(rigid_of(similarities.double()), truth.double())
        return getattr(found, name).tolist()

    return measure


def _reduction(of_tensor: Callable[[Tensor], float]) -> Reduction:
    return lambda values: of_tensor(torch.tensor(values, dtype=torch.float64))


def _median(values: Sequence[float]) -> float:
    # A pair that failed is infinitely wrong: the median says so once half of them failed.
    return float(np.median(np.nan_to_num(np.array(values), nan=np.inf)))


VGGT = PoseRules("vggt", "vggt")
FAST3R = PoseRules("fast3r", "fast3r", auc="histc")
PI3 = PoseRules("pi3", "pi3")
DA3 = PoseRules("da3", "da3")
SPATIALBENCH = PoseRules("spatialbench", "da3", relative="mean")
POSE_RULES = (VGGT, FAST3R, PI3, DA3, SPATIALBENCH)
