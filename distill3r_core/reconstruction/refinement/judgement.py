"""Whether an aligned pair can be believed."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from distill3r_core.reconstruction.refinement.motions import chain, turn_degrees
from distill3r_core.reconstruction.refinement.normal_equations import (
    brightness_residual,
    masked_median,
)
from distill3r_core.reconstruction.refinement.pyramid import Level
from distill3r_core.reconstruction.refinement.warp import PairStates, warp

_DEPTH_TOLERANCE = 0.1  # relative difference of two depths that counts as agreement
# What an accepted pair explains at least.
_LEAST_CORRELATION = 0.6
LEAST_AGREEMENT = 0.3
_LEAST_SHARE = 0.15
_MOST_TURN = 2.0  # degrees that a pair's motions, there and back, may leave
_MOST_LOOP = 3 * _MOST_TURN  # degrees that the motions of three pairs, around, may leave


@dataclass(frozen=True, eq=False)
class PairChecks:
    """What a pair's state explains.

    Args:
        share: Share of the source's points that land in the target, not hidden there.
        correlation: Of the brightness of those and of what is found there, in [-1, 1].
        agreement: Share of those whose depth agrees within 10 %.
        residual: Median absolute difference of brightness, after gain and offset.
    """

    share: Float[Tensor, " P"]
    correlation: Float[Tensor, " P"]
    agreement: Float[Tensor, " P"]
    residual: Float[Tensor, " P"]

    @property
    def quality(self) -> Float[Tensor, " P"]:
        """One number to compare starts and pairs by: of all points, those that are explained."""
        return self.correlation.clamp(min=0) * self.agreement * self.share.sqrt()


def check_pairs(level: Level, pairs: PairStates) -> PairChecks:
    """Measure what the states of pairs explain at one resolution."""
    warped = warp(level, pairs, slopes=False)
    hidden = warped.depth > 2 * _DEPTH_TOLERANCE
    visible = warped.seen & ~hidden
    count = visible.sum(1).clamp(min=1)
    residual = masked_median(brightness_residual(warped).abs(), visible)
    agree = (warped.depth.abs() < _DEPTH_TOLERANCE) & visible
    return PairChecks(
        share=visible.sum(1) / visible.shape[1],
        correlation=_correlation(warped.found, warped.own, visible),
        agreement=agree.sum(1) / count,
        residual=residual,
    )


def _correlation(
    first: Float[Tensor, "P M"], second: Float[Tensor, "P M"], mask: Tensor
) -> Float[Tensor, " P"]:
    count = mask.sum(1, keepdim=True).clamp(min=1)
    first = torch.where(mask, first - (first * mask).sum(1, keepdim=True) / count, 0.0)
    second = torch.where(mask, second - (second * mask).sum(1, keepdim=True) / count, 0.0)
    length = first.norm(dim=1) * second.norm(dim=1)
    return (first * second).sum(1) / length.clamp(min=1e-9)


# What a pair explains at least on a coarse level, from its best start: half of what an accepted one
# does. With less, finer levels have not brought one to be accepted.
HOPE = 0.5


def promising_pairs(checks: PairChecks) -> Bool[Tensor, " P"]:
    """Pairs that finer levels are worth: those whose two directions both explain something.

    Args:
        checks: Of all pairs forth, then all back, on a coarse level.
    """
    good = checks.correlation > HOPE * _LEAST_CORRELATION
    good &= checks.agreement > HOPE * LEAST_AGREEMENT
    good &= checks.share > HOPE * _LEAST_SHARE
    forth, back = good.chunk(2)
    return forth & back


def judge_pairs(
    states: PairStates, checks: PairChecks
) -> tuple[Bool[Tensor, " P"], Float[Tensor, " P"]]:
    """Which pairs are accepted, and the quality of each: the worse of its two directions.

    Args:
        states: All pairs forth, then all back, aligned independently.
        checks: Theirs.
    """
    good = (checks.correlation > _LEAST_CORRELATION) & (checks.agreement > LEAST_AGREEMENT)
    good &= checks.share > _LEAST_SHARE
    forth, back = good.chunk(2)
    there, home = states.motion.chunk(2)
    consistent = turn_degrees(chain(home, there)) < _MOST_TURN
    quality = torch.stack(checks.quality.chunk(2)).amin(0)
    return forth & back & consistent, quality


def contradicted_pairs(
    pairs: Int64[Tensor, "P 2"], motion: Float[Tensor, "P 3 4"], accepted: Bool[Tensor, " P"]
) -> Bool[Tensor, " P"]:
    """Accepted pairs that close no triangle, though two others would make one with them.

    A wrong alignment of views far apart may explain brightness and depth there and back; that it
    fits the motions by way of a third view, too, is unlikely. Pairs that are in no triangle are
    not contradicted.

    Args:
        motion: second_from_first of each pair.
        accepted: Pairs that count.
    """
    if not accepted.any():
        return torch.zeros_like(accepted)
    count = int(pairs.max()) + 1
    a, b = pairs[accepted].T
    turns = torch.eye(3, dtype=motion.dtype, device=motion.device).repeat(count, count, 1, 1)
    turns[a, b] = motion[accepted][:, :, :3]  # [a, b]: b from a
    turns[b, a] = motion[accepted][:, :, :3].mT
    known = torch.zeros(count, count, dtype=torch.bool, device=motion.device)
    known[a, b] = known[b, a] = True
    third = known[a] & known[b]  # (accepted, views)
    around = turns[:, a].movedim(0, 1) @ turns[b] @ turns[a, b][:, None]
    off = torch.where(third, turn_degrees(around), torch.inf).amin(1)
    found = torch.zeros_like(accepted)
    found[accepted] = third.any(1) & (off > _MOST_LOOP)
    return found
