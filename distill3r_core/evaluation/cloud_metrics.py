"""Metrics of clouds after a protocol's alignment: Acc, Comp, Chamfer, normals, F-score."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.clouds.cloud_errors import cloud_errors
from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    SHARE,
    Comparison,
    Metric,
    mean,
)
from distill3r_core.geometry.metrics import AlignedClouds

F_THRESHOLD = 0.05  # meters


def _of_clouds(
    measure: Callable[[AlignedClouds], float],
) -> Callable[[Comparison], Sequence[float]]:
    return lambda comparison: [measure(clouds) for clouds in comparison.clouds]


def _median(values: Float[Tensor, " M"]) -> float:
    # Not torch.median, which takes the lower of the two middle values.
    return float(np.median(values.numpy()))


def _f_scores(comparison: Comparison) -> Sequence[float] | None:
    """None where the truth has no unit: 5 cm is no length there."""
    if comparison.truth.unit != "m":
        return None
    return [_f_score(clouds) for clouds in comparison.clouds]


def _f_score(clouds: AlignedClouds) -> float:
    precision, recall = (
        float((distance < F_THRESHOLD).double().mean())
        for distance in (clouds.accuracy, clouds.completeness)
    )
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def _normals(reduce: Callable[[Tensor], float]) -> Callable[[AlignedClouds], float]:
    def measure(clouds: AlignedClouds) -> float:
        try:
            errors = cloud_errors(clouds.predicted, clouds.truth)
        except GeometryError:  # fewer points than a normal needs
            return float("nan")
        return (reduce(errors.normals_accuracy) + reduce(errors.normals_completeness)) / 2

    return measure


CLOUD_METRICS: tuple[Metric, ...] = (
    *(
        Metric(
            f"{name}{suffix}", heading, CENTIMETERS, "lower",
            _of_clouds(lambda clouds, field=field, reduce=reduce: reduce(getattr(clouds, field))),
            mean, mean, ".2f", describe=True,
        )
        for name, title, field in (
            ("acc", "Acc", "accuracy"), ("comp", "Comp", "completeness"),
        )
        for suffix, heading, reduce in (
            ("", title, _median), ("_mean", f"{title}, mean", lambda values: float(values.mean())),
        )
    ),
    Metric(
        "chamfer", "Chamfer", CENTIMETERS, "lower",
        _of_clouds(lambda clouds: float(clouds.accuracy.mean() + clouds.completeness.mean()) / 2),
        mean, mean, ".2f", describe=True,
    ),
    Metric("fscore", "F @ 5 cm", SHARE, "higher", _f_scores, mean, mean),
    Metric("nc", "NC", SHARE, "higher",
           _of_clouds(_normals(lambda values: float(torch.mean(values)))), mean, mean),
    Metric("nc_median", "NC, median", SHARE, "higher", _of_clouds(_normals(_median)), mean, mean),
)  # fmt: skip
