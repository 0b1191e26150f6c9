"""F-scores of the surface that predicted depth maps are fused into, against a data set's mesh.

Depth Anything 3 and SpatialBench fuse in a truncated signed distance field, once with the true
cameras and once with the predicted ones, and compare points on both surfaces.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.clouds.f_score import FScore, f_score
from distill3r_core.evaluation.clouds.tsdf import TsdfVolume, sample_surface
from distill3r_core.evaluation.metric_record import (
    CENTIMETERS,
    SHARE,
    Comparison,
    Metric,
    mean,
)
from distill3r_core.geometry.camera_alignment import (
    align_centers_procrustes,
    align_centers_ransac,
)
from distill3r_core.geometry.focal import focal_ratio
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import compose, scale_of

SAMPLES = 1_000_000  # points on each surface
Cameras = Literal["true", "predicted"]
_ALIGN = {"da3": align_centers_ransac, "spatialbench": align_centers_procrustes}
_GRID: dict[str, Literal["corner", "origin"]] = {"da3": "corner", "spatialbench": "origin"}


def fused_score(comparison: Comparison, rules: str, cameras: Cameras) -> FScore | None:
    """Compare the fused prediction with the true surface; None where one of them is not known.

    Depth is brought to the unit of the predicted cameras, where each view has a scale of its own,
    and then scaled by the similarity of the camera centers.
    """
    truth, maps, surface = comparison.truth, comparison.maps, comparison.truth.surface
    if surface is None or truth.poses is None or maps.global_from_local is None:
        return None
    poses = rigid_of(maps.global_from_local.double())
    try:
        aligned = _ALIGN[rules](poses[:, :3, 3], truth.poses[:, :3, 3])
        points = _fuse(comparison, aligned, poses, cameras)
        return f_score(
            points,
            surface.points,
            threshold=surface.threshold,
            voxel=surface.voxel,
            grid=_GRID[rules],
            crop_margin=surface.margin if rules == "spatialbench" else None,
        )
    except GeometryError:
        return FScore(np.nan, np.nan, np.nan, np.nan)


def _fuse(
    comparison: Comparison,
    aligned: Float[Tensor, "3 4"],
    poses: Float[Tensor, "N 4 4"],
    cameras: Cameras,
) -> Float[Tensor, "M 3"]:
    """Points on the surface of the fused depth maps.

    The volume ends with this call: it is large, and so is what the comparison of points takes.
    """
    truth, maps = comparison.truth, comparison.maps
    assert truth.surface is not None and truth.poses is not None
    assert maps.global_from_local is not None
    scales = scale_of(aligned) * scale_of(maps.global_from_local.double())
    volume = TsdfVolume(truth.surface.volume)
    for view, mask in enumerate(truth.mask):
        points = maps.points_local[view]
        depth = torch.where(mask, points[..., 2], 0.0).double() * scales[view]
        intrinsics, pose = truth.intrinsics[view].double(), truth.poses[view].double()
        if cameras == "predicted":
            ratio = float(focal_ratio(points, mask, intrinsics))
            intrinsics = intrinsics * torch.tensor([[ratio, 1, 1], [1, ratio, 1], [1, 1, 1]])
            pose = rigid_of(compose(aligned.double(), poses[view, :3]))
        volume.integrate(depth.numpy(), intrinsics.numpy(), pose.numpy())
    return torch.from_numpy(sample_surface(volume.triangles(), SAMPLES))


def _of_surface(
    rules: str, cameras: Cameras, name: str
) -> Callable[[Comparison], Sequence[float] | None]:
    def measure(comparison: Comparison) -> Sequence[float] | None:
        key = f"{rules} {cameras}"
        if key not in comparison.kept:  # two figures are of one fusion
            comparison.kept[key] = fused_score(comparison, rules, cameras)
        found = comparison.kept[key]
        return None if found is None else [getattr(found, name)]

    return measure


def _metrics(rules: str, cameras: Cameras) -> tuple[Metric, Metric]:
    suffix = "" if cameras == "predicted" else "_true_poses"
    words = "" if cameras == "predicted" else ", true poses"
    return (
        Metric(
            f"fscore{suffix}", f"F{words}", SHARE, "higher",
            _of_surface(rules, cameras, "f_score"), mean, mean, of_placed_maps=True,
        ),
        Metric(
            f"chamfer{suffix}", f"Chamfer{words}", CENTIMETERS, "lower",
            _of_surface(rules, cameras, "overall"), mean, mean, ".2f", describe=True,
            of_placed_maps=True,
        ),
    )  # fmt: skip


FUSED_METRICS: dict[str, Metric] = {
    f"{rules}:{metric.name}": metric
    for rules in _ALIGN
    for cameras in ("true", "predicted")
    for metric in _metrics(rules, cameras)
}
