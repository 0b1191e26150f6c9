"""Alignments of a whole sequence, as the published evaluations of point maps carry it out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import FailedError, GeometryError
from distill3r_core.evaluation.clouds.cloud_alignments import (
    align_by_confidence,
    align_by_medians,
    align_local_to_global,
    center_crop,
    confident_pixels,
)
from distill3r_core.evaluation.clouds.icp import icp
from distill3r_core.evaluation.protocols.alignments import Alignment, UnalignedError, at_fault
from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.metrics import AlignedClouds, nearest_distances
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import (
    apply_similarity,
    compose,
    fit_similarity_in_parts,
    invert_similarity,
    scale_of,
)
from distill3r_core.types import RawMaps

ICP_THRESHOLD = 0.1  # meters; on DTU 100 mm, the same
CENTER = 112  # rows and columns on each side of the middle, CUT3R


def global_points(maps: RawMaps, truth: Truth) -> Float[Tensor, "N H W 3"]:
    """Predicted points in the frame of the first camera.

    Raises:
        UnalignedError: Some view has no pose or global points, or they are not finite.
    """
    unplaced = UnalignedError(f"{truth.name}: the prediction does not place all views")
    if maps.points_global is not None:
        points = torch.stack(list(maps.points_global))
        if not points[truth.mask].isfinite().all():
            raise unplaced
        return points
    similarities = maps.global_from_local
    if similarities is None or not similarities.isfinite().all():
        raise unplaced
    back = invert_similarity(rigid_of(similarities[:1].double())[:, :3])
    moved = compose(back.expand_as(similarities), similarities.double())
    points = apply_similarity(moved, local_points(maps, truth).double()).float()
    if not points[truth.mask].isfinite().all():
        raise unplaced
    return points


def local_points(maps: RawMaps, truth: Truth) -> Float[Tensor, "N H W 3"]:
    """Predicted points in each camera's own frame.

    Raises:
        UnalignedError: Some that count are not finite.
    """
    points = torch.stack(list(maps.points_local))
    if not points[truth.mask].isfinite().all():
        raise UnalignedError(f"{truth.name}: predicted points are not finite")
    return points


def world_points(truth: Truth) -> tuple[Float[Tensor, "N H W 3"], Float[Tensor, "N 4 4"]]:
    """True points in the world, and the true poses.

    Raises:
        FailedError: The truth has no poses.
    """
    similarities = truth.global_from_local
    if similarities is None or truth.poses is None:
        raise FailedError(f"{truth.name} has no poses, which its protocol needs")
    return apply_similarity(similarities.double(), truth.points.double()).float(), truth.poses


def _clouds(
    predicted: Float[Tensor, "N H W 3"],
    truth: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
    *,
    scale: float,
    norm_ratio: float,
    with_icp: bool,
) -> AlignedClouds:
    mine, true = predicted[mask].double(), truth[mask].double()
    if with_icp:
        mine = icp(mine, true, threshold=ICP_THRESHOLD).points
    return AlignedClouds(
        predicted=mine,
        truth=true,
        accuracy=nearest_distances(mine, true),
        completeness=nearest_distances(true, mine),
        scale=scale,
        norm_ratio=norm_ratio,
    )


def _norm_ratio(truth: Truth, maps: RawMaps) -> float:
    norms = [
        np.median(torch.cat([p[m].norm(dim=-1) for p, m in zip(points, truth.mask, strict=True)]))
        for points in (truth.points, maps.points_local)
    ]
    return float(norms[0] / norms[1])


@dataclass(frozen=True)
class MedianAligner:
    """Median depth and spread in the first camera's frame, then ICP (Spann3R, CUT3R).

    Args:
        half: Only rows and columns within this of the middle are compared; None: all.
    """

    half: int | None = None

    def __call__(self, truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
        """One pair of clouds for the sequence."""
        points, poses = world_points(truth)  # first: a truth without poses is refused
        predicted = global_points(maps, truth)
        try:
            found = align_by_medians(predicted, points, truth.mask, poses[0])
            compared = (found.points, points, truth.mask)
            if self.half is not None:
                compared = tuple(center_crop(each, self.half) for each in compared)
            yield _clouds(
                *compared,
                scale=found.true_scale / found.predicted_scale,
                norm_ratio=_norm_ratio(truth, maps),
                with_icp=True,
            )
        except GeometryError as error:
            raise at_fault(truth.name, points[truth.mask], error) from error


def align_confident(truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
    """Local maps by the confident global points, then one similarity (Fast3R)."""
    points, _ = world_points(truth)
    predicted = global_points(maps, truth)
    local = local_points(maps, truth)
    confidence = [torch.stack(list(c)) for c in (maps.confidence_global, maps.confidence_local)]
    try:
        placed = align_local_to_global(
            local, predicted, truth.mask, confident_pixels(confidence[0])
        )
        aligned = align_by_confidence(placed, points, truth.mask, confident_pixels(confidence[1]))
        ratio = _norm_ratio(truth, maps)
        yield _clouds(aligned, points, truth.mask, scale=ratio, norm_ratio=ratio, with_icp=False)
    except GeometryError as error:
        raise at_fault(truth.name, points[truth.mask], error) from error


def align_once(truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
    """One similarity over all pixels of all views, then ICP (Pi3)."""
    points, _ = world_points(truth)
    predicted = global_points(maps, truth)
    try:
        similarity = fit_similarity_in_parts(
            [(p[m], t[m]) for p, t, m in zip(predicted, points, truth.mask, strict=True)]
        )
        yield _clouds(
            apply_similarity(similarity, predicted.double()),
            points,
            truth.mask,
            scale=float(scale_of(similarity)),
            norm_ratio=_norm_ratio(truth, maps),
            with_icp=True,
        )
    except GeometryError as error:
        raise at_fault(truth.name, points[truth.mask], error) from error


def align_nothing(truth: Truth, maps: RawMaps) -> Iterator[AlignedClouds]:
    """No clouds: poses and depth have alignments of their own."""
    return iter(())


_ICP = f"then point-to-point ICP within {ICP_THRESHOLD} m"
MEDIANS = Alignment(
    text=f"median depth and spread in the first camera's frame, {_ICP} (Spann3R)",
    head="global",
    align=MedianAligner(),
    places=True,
)
MEDIANS_CENTER = Alignment(
    text=f"median depth and spread of all pixels, cut to the central {2 * CENTER} rows and "
    f"columns, {_ICP} (CUT3R)",
    head="global",
    align=MedianAligner(CENTER),
    places=True,
)
CONFIDENT = Alignment(
    text="each local map onto its global one by the most confident 15 percent, then one "
    "similarity by the most confident 15 percent (Fast3R)",
    head="local",
    align=align_confident,
    places=True,
)
ONE_SIMILARITY = Alignment(
    text=f"one similarity over all pixels of all views, {_ICP} (Pi3)",
    head="global",
    align=align_once,
    places=True,
)
NO_CLOUDS = Alignment(
    text="none: poses and depth are aligned as their own rules say",
    head="local",
    align=align_nothing,
)
