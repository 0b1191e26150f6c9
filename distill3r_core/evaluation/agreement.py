"""How far two predictions of the same views agree: depth, poses, and what confidence is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.pose_errors import PairErrors, area_under_curve, pair_errors

WITHIN = 0.05  # relative difference of depth that counts as agreement
AUC_DEGREES = 30
_RANKED = 100_000  # pixels of a sample whose ranks are compared, evenly spread
_FEWEST = 3  # pixels, and ranks, that say something


@dataclass(frozen=True)
class ViewGeometry:
    """What a teacher says of the views of a sample.

    Args:
        world_from_cam: Poses in any frame and unit; None where they are not known.
    """

    depth: Float[Tensor, "N H W"]  # in any unit, one for all views
    mask: Bool[Tensor, "N H W"]
    confidence: Float[Tensor, "N H W"]
    world_from_cam: Float[Tensor, "N 4 4"] | None


@dataclass(frozen=True)
class SampleAgreement:
    """How far one prediction of a sample agrees with a reference.

    Args:
        depth_median: Median relative difference of depth, after one scale for the sample.
        depth_within: Share of pixels that differ by less than 5 %.
        confidence_rank: Rank correlation of the prediction's confidence with that difference:
            -1 where the surest pixels are the best, 0 where confidence says nothing. None where
            either is the same everywhere.
        poses: Differences of relative poses of all pairs; None where poses are not known.
    """

    pixels: int
    scale: float  # that the prediction's depth was multiplied by
    depth_median: float
    depth_within: float
    confidence_rank: float | None
    poses: PairErrors | None


def agreement_of(mine: ViewGeometry, reference: ViewGeometry) -> SampleAgreement | None:
    """Compare two predictions on the same pixels; None where they share too few valid ones.

    The difference of depth is relative to the reference's.
    """
    both = mine.mask & reference.mask & (mine.depth > 0) & (reference.depth > 0)
    if int(both.sum()) < _FEWEST:
        return None
    ratio = mine.depth[both].double() / reference.depth[both].double()
    middle = ratio.median()
    error = (ratio / middle - 1).abs()
    poses = None
    if mine.world_from_cam is not None and reference.world_from_cam is not None:
        poses = pair_errors(mine.world_from_cam, reference.world_from_cam)
    return SampleAgreement(
        pixels=len(error),
        scale=float(1 / middle),
        depth_median=float(error.median()),
        depth_within=float((error < WITHIN).double().mean()),
        confidence_rank=rank_correlation(mine.confidence[both].double(), error),
        poses=poses,
    )


def rank_correlation(first: Float[Tensor, " P"], second: Float[Tensor, " P"]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank.

    Of many values an even part is taken. None where one side has a single value.
    """
    step = -(-len(first) // _RANKED)
    ranks = []
    for values in (first, second):
        _, place, counts = values[::step].unique(return_inverse=True, return_counts=True)
        ranks.append((counts.cumsum(0).double() - (counts.double() - 1) / 2)[place])
    if len(ranks[0]) < _FEWEST or any(bool((rank == rank[0]).all()) for rank in ranks):
        return None
    centered = [rank - rank.mean() for rank in ranks]
    return float(centered[0] @ centered[1] / (centered[0].norm() * centered[1].norm()))


def summary_of(samples: Sequence[SampleAgreement]) -> dict[str, float | int | None]:
    """Figures of all samples.

    Medians of depth are those of the samples' medians; shares and ranks are means over samples;
    poses are those of all pairs of views together. None where nothing is known.
    """
    errors = [sample.poses for sample in samples if sample.poses is not None]
    rotation, translation, largest = (
        torch.cat([getattr(one, name) for one in errors]) if errors else None
        for name in ("rotation", "translation", "largest")
    )
    ranks = [one.confidence_rank for one in samples if one.confidence_rank is not None]
    medians = torch.tensor([one.depth_median for one in samples], dtype=torch.float64)
    return {
        "samples": len(samples),
        "depth_median": float(medians.median()) if samples else None,
        "depth_within": sum(one.depth_within for one in samples) / len(samples)
        if samples
        else None,
        "rotation_median": None if rotation is None else float(rotation.nanmedian()),
        "translation_median": None if translation is None else float(translation.nanmedian()),
        f"auc_{AUC_DEGREES}": None if largest is None else area_under_curve(largest, AUC_DEGREES),
        "pairs": 0 if largest is None else len(largest),
        "confidence_rank": sum(ranks) / len(ranks) if ranks else None,
    }
