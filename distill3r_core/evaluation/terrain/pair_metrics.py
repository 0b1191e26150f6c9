"""Whether the two maps of a pair of views agree, and where its poses put what is seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from distill3r_core.evaluation.metric_record import Comparison, Metric, MetricUnit, mean
from distill3r_core.evaluation.terrain.ground_depth import METERS
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.cameras import project
from distill3r_core.geometry.depth_alignment import median_ratio
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import (
    apply_similarity,
    compose,
    invert_similarity,
    scale_of,
)
from distill3r_core.types import RawMaps

PIXELS = MetricUnit("pixels", "pixels")
_ROUNDED = 1e-3  # pixels by which a place may be beyond the centers of the rim
_HIDDEN = 0.01  # share of its depth by which a point may be behind what the other view sees


def seen_again(
    truth: Truth,
) -> tuple[Bool[Tensor, "H W"], Float[Tensor, "H W 2"]]:
    """Which pixels of the first view the second one sees as well, and where: (u, v).

    By true depth, poses and K, among valid pixels: the point is in the second image, all four
    pixels around it are valid, and it lies within 1 % of the depth there. The truth has poses.
    """
    assert truth.global_from_local is not None
    height, width = truth.size
    anchor, other = truth.global_from_local.double()
    second_from_first = compose(invert_similarity(other), anchor)
    points = apply_similarity(second_from_first, truth.points[0].double())
    places = project(points, truth.intrinsics[1].double())
    u, v = places.unbind(-1)
    first, last = 0.5 - _ROUNDED, _ROUNDED - 0.5
    inside = (u >= first) & (u <= width + last) & (v >= first) & (v <= height + last)
    places = torch.where(inside[..., None], places, 0.5)
    around = read_at(truth.mask[1][..., None].double(), places)[..., 0] > 1 - 1e-6
    filled = torch.where(truth.mask[1], truth.points[1, ..., 2].double(), 0.0)
    depth = read_at(filled[..., None], places)[..., 0]
    visible = (points[..., 2] - depth).abs() < _HIDDEN * depth
    return truth.mask[0] & (points[..., 2] > 0) & inside & around & visible, places


def read_at(
    values: Float[Tensor, "H W C"], places: Float[Tensor, "h w 2"]
) -> Float[Tensor, "h w C"]:
    """Bilinear values at pixels (u, v) of an image, whose first pixel has its center at 0.5."""
    height, width = values.shape[:2]
    grid = 2 * places / places.new_tensor([width, height]) - 1
    found = functional.grid_sample(
        values.movedim(-1, 0)[None], grid[None], padding_mode="border", align_corners=False
    )
    return found[0].movedim(0, -1)


@dataclass(frozen=True)
class _PlacedPair:
    """Two views in one frame, and what the prediction makes of them, in the truth's unit."""

    true: Float[Tensor, "2 3 4"]  # carry local points into the frame, float64
    predicted: Float[Tensor, "2 3 4"]


def _placed(truth: Truth, maps: RawMaps) -> _PlacedPair | None:
    """Both similarities, the predicted ones in the truth's unit; None where one side has none.

    One ratio of medians of depth, at the size that each map has in its common frame, brings the
    prediction to the truth's unit: maps of one view and poses need not have the same one.
    """
    true, predicted = truth.global_from_local, maps.global_from_local
    if len(truth.view_names) != 2 or true is None or predicted is None or maps.local_only:
        return None
    true, predicted, mask = true.double(), predicted.double(), truth.mask
    depths = [
        (scale_of(similarities)[:, None, None] * points[..., 2].double())[mask]
        for similarities, points in (
            (predicted, torch.stack(list(maps.points_local))),
            (true, truth.points),
        )
    ]
    ratio = median_ratio(*depths) if all(one.isfinite().all() for one in depths) else math.nan
    return _PlacedPair(true, ratio * predicted)


def _overlap(comparison: Comparison) -> Sequence[float] | None:
    """Distance between what both predicted maps say of a point that both views see."""
    truth, maps = comparison.truth, comparison.maps
    pair = _placed(truth, maps)
    if pair is None:
        return None
    again, places = seen_again(truth)
    if not again.any():
        return None
    known = torch.where(truth.mask[..., None], torch.stack(list(maps.points_local)), 0.0)
    first, second = apply_similarity(pair.predicted, known.double())
    return [float((first - read_at(second, places)).norm(dim=-1)[again].mean())]


def _reprojection(comparison: Comparison) -> Sequence[float] | None:
    """Mean distance in the second image between its points and where the predicted pose puts them.

    VCRE of Arnold et al. (Map-free visual relocalization, 2022), with the true points of the second
    view for virtual ones: a cube of two meters says nothing of ground that is tens away. A point
    that the pose puts behind the camera, or farther off, counts as one image's diagonal.
    """
    truth = comparison.truth
    pair = _placed(truth, comparison.maps)
    if pair is None:
        return None
    true, poses = (rigid_of(it)[:, :3] for it in (pair.true, pair.predicted))
    if not poses.isfinite().all():
        return [math.nan]
    points = scale_of(pair.true)[1] * truth.points[1][truth.mask[1]].double()
    # Into the first camera by the true poses, and back by the predicted ones.
    first_from_second = compose(invert_similarity(true[0]), true[1])
    second_from_first = compose(invert_similarity(poses[1]), poses[0])
    moved = apply_similarity(compose(second_from_first, first_from_second), points)
    intrinsics = truth.intrinsics[1].double()
    diagonal = math.hypot(*truth.size)
    apart = (project(moved, intrinsics) - project(points, intrinsics)).norm(dim=-1)
    apart = torch.where((moved[:, 2] > 0) & (apart < diagonal), apart, diagonal)
    return [float(apart.mean())]


PAIR_METRICS: tuple[Metric, ...] = (
    Metric(
        "overlap_distance",
        "overlap",
        METERS,
        "lower",
        _overlap,
        mean,
        mean,
        of_poses=True,
        of_placed_maps=True,
    ),
    Metric(
        "vcre",
        "VCRE (px)",
        PIXELS,
        "lower",
        _reprojection,
        mean,
        mean,
        ".2f",
        of_poses=True,
        of_placed_maps=True,
    ),
)
