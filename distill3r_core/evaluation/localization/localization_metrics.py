"""Where a camera is in a known scene, and how far coordinates in it are off."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    DEGREES,
    SHARE,
    Comparison,
    Metric,
    MetricUnit,
    mean,
    median,
)
from distill3r_core.geometry.registration import rotation_angle
from distill3r_core.geometry.similarity import apply_similarity

NEAR_METERS, NEAR_DEGREES = 0.05, 5.0
SQUARE_METERS = MetricUnit("m^2", "squared units of truth")
SQUARE_RADII = MetricUnit("squared radii of the scene", "squared radii of the scene")


def _of_cameras(
    measure: Callable[[Float[Tensor, " N"], Float[Tensor, " N"]], Tensor],
    *,
    needs_unit: bool = False,
) -> Callable[[Comparison], Sequence[float] | None]:
    """A measure of meters and degrees of each camera from the truth; infinite without a pose.

    Args:
        needs_unit: Whether it says nothing where the truth has no unit.
    """

    def measured(comparison: Comparison) -> Sequence[float] | None:
        scene, true = comparison.maps.scene, comparison.truth.world_poses
        if scene is None or true is None or (needs_unit and comparison.truth.unit != "m"):
            return None
        poses, true = scene.world_from_cam.double(), true.double()
        found = poses.isfinite().all(-1).all(-1)
        shown = torch.where(found[:, None, None], poses, torch.eye(4, dtype=poses.dtype))
        meters = (shown[:, :3, 3] - true[:, :3, 3]).norm(dim=-1).masked_fill(~found, torch.inf)
        degrees = rotation_angle(shown, true).masked_fill(~found, torch.inf)
        return measure(meters, degrees).tolist()

    return measured


def _near(meters: Float[Tensor, " N"], degrees: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    return ((meters <= NEAR_METERS) & (degrees <= NEAR_DEGREES)).double()


def _coordinates(
    reduce: Callable[[Float[Tensor, "M 3"]], Tensor],
    *,
    in_radii: bool = False,
    needs_unit: bool = False,
) -> Callable[[Comparison], Sequence[float] | None]:
    """A measure of the errors of each view's coordinates over its true pixels."""

    def measured(comparison: Comparison) -> Sequence[float] | None:
        scene, truth = comparison.maps.scene, comparison.truth
        if scene is None or truth.world_poses is None or (in_radii and scene.radius is None):
            return None
        if needs_unit and truth.unit != "m":
            return None
        radius = scene.radius if in_radii and scene.radius is not None else 1.0
        true = apply_similarity(truth.world_poses[:, :3].double(), truth.points.double())
        return [
            float(reduce((mine.double()[mask] - wanted[mask]) / radius))
            for mine, wanted, mask in zip(scene.points, true, truth.mask, strict=True)
        ]

    return measured


LOCALIZATION_METRICS: tuple[Metric, ...] = (
    Metric(
        "location_median", "location", CENTIMETERS, "lower",
        _of_cameras(lambda meters, degrees: meters), median, mean, ".1f",
        describe=True, of_poses=True,
    ),
    Metric(
        "location_rotation_median", "rotation (deg)", DEGREES, "lower",
        _of_cameras(lambda meters, degrees: degrees), median, mean, ".2f", of_poses=True,
    ),
    Metric(
        "location_near", "within 5 cm, 5 deg", SHARE, "higher",
        _of_cameras(_near, needs_unit=True), mean, mean,
        of_poses=True,
    ),
    Metric(
        "coordinate_mse", "MSE", SQUARE_RADII, "lower",
        _coordinates(lambda error: error.square().mean(), in_radii=True), mean, mean, ".5f",
        of_placed_maps=True,
    ),
    Metric(
        "coordinate_mse_metric", "MSE (m^2)", SQUARE_METERS, "lower",
        _coordinates(lambda error: error.square().mean(), needs_unit=True), mean, mean, ".4f",
        of_placed_maps=True,
    ),
    Metric(
        "coordinate_median", "coordinates", CENTIMETERS, "lower",
        _coordinates(lambda error: error.norm(dim=-1).median()), mean, mean, ".1f", describe=True,
        of_placed_maps=True,
    ),
)  # fmt: skip
