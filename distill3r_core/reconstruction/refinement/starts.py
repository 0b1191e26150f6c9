"""Where the alignment of a pair may start."""

import dataclasses
import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from distill3r_core.reconstruction.refinement.joint import ViewStates, pairs_of
from distill3r_core.reconstruction.refinement.judgement import check_pairs
from distill3r_core.reconstruction.refinement.motions import exponential
from distill3r_core.reconstruction.refinement.pair_alignment import align_pairs, select
from distill3r_core.reconstruction.refinement.pyramid import Level
from distill3r_core.reconstruction.refinement.warp import PairStates
from distill3r_core.report import Progress, Silent

_STEPS = 8  # of the search over turns, in a field of view
_REACH = 0.75  # of a field of view: with a larger turn nothing is seen by both
_AT_ONCE = 1 << 21  # pixels
_SEARCHED = 2  # turns of each pair that are tried
COARSE = 2  # levels on which all starts are followed


def searched_turns(level: Level, pairs: PairStates, *, keep: int) -> list[PairStates]:
    """The turns about the camera's two axes with which the images of each pair are most alike.

    Args:
        level: The coarsest.
        pairs: Their motions are not used.
        keep: How many turns of each pair, the best first.
    """
    turns = _turns(level)
    count, number = len(pairs.source), len(turns)
    scores = []
    size = max(1, _AT_ONCE // (number * level.gray[0].numel()))
    for chosen in torch.arange(count, device=turns.device).split(size):
        many = select(pairs, chosen.repeat_interleave(number))
        motion = turns.repeat(len(chosen), 1, 1)
        checks = check_pairs(level, dataclasses.replace(many, motion=motion))
        score = checks.correlation * checks.share.sqrt()
        scores.append(score.view(len(chosen), number))
    best = torch.cat(scores).topk(keep, dim=1).indices
    return [dataclasses.replace(pairs, motion=turns[best[:, k]]) for k in range(keep)]


def _turns(level: Level) -> Float[Tensor, "T 3 4"]:
    """Motions of a grid of turns."""
    height, width = level.gray.shape[-2:]
    fields = [
        2 * math.atan(side / 2 / float(level.intrinsics[:, axis, axis].median()))
        for side, axis in ((height, 1), (width, 0))
    ]
    step = max(fields) / _STEPS
    most = [int(_REACH * field / step) for field in fields]
    device = level.gray.device
    pitch = step * torch.arange(-most[0], most[0] + 1, dtype=torch.float64, device=device)
    yaw = step * torch.arange(-most[1], most[1] + 1, dtype=torch.float64, device=device)
    twist = torch.zeros(len(pitch), len(yaw), 6, dtype=torch.float64, device=device)
    twist[..., 0], twist[..., 1] = pitch[:, None], yaw
    return exponential(twist.flatten(0, 1))


def start_of(
    levels: list[Level], given: PairStates, *, progress: Progress = Silent()
) -> PairStates:
    """The most promising start of each pair, after the coarsest levels.

    Tried are the motion given, none at all, and the turns that make the images most alike.

    Args:
        levels: Coarse to fine.
        given: The motions that are known from elsewhere.
    """
    still = torch.eye(3, 4, dtype=given.motion.dtype, device=given.motion.device)
    none = dataclasses.replace(given, motion=still.expand_as(given.motion).clone())
    tried = [given, none, *searched_turns(levels[0], given, keep=_SEARCHED)]
    return most_promising(levels, tried, label="find starts", progress=progress)


def most_promising(
    levels: list[Level],
    tried: list[PairStates],
    *,
    label: str,
    progress: Progress = Silent(),
) -> PairStates:
    """The best of several starts of each pair, after the coarsest levels.

    Args:
        levels: Coarse to fine.
        tried: The same pairs in each.
        label: Name of the phase in the progress.
    """
    count = len(tried[0].source)
    whole = PairStates(*(torch.cat([getattr(one, n) for one in tried]) for n in vars(tried[0])))
    moved = align_pairs(levels[:COARSE], whole, label=label, progress=progress)
    quality = check_pairs(levels[min(COARSE, len(levels)) - 1], moved).quality
    best = quality.view(len(tried), count).argmax(0)
    return select(moved, best * count + torch.arange(count, device=best.device))


def starts_by_neighbors(
    states: PairStates,
    accepted: Bool[Tensor, " P"],
    chained: ViewStates,
    group: Int64[Tensor, " N"],
) -> tuple[Int64[Tensor, " Q"], list[PairStates]]:
    """Starts of the pairs that were not accepted, by what accepted ones know of their views.

    Tried are the motion along accepted pairs, where they connect the two views, and for neighbors
    in the order of the views the motions just before and after, as of a camera that keeps moving.
    Where a pair lacks one of these, the place of its first attempt stands there.

    Args:
        states: All pairs forth, then all back.
        accepted: Pairs that are.
        chained: Views as the accepted pairs place them.
        group: See `groups_of`.

    Returns:
        The directed pairs with a new start, all forth, then all back; and their starts.
    """
    used = accepted.repeat(2).tolist()
    ends = list(zip(states.source.tolist(), states.target.tolist(), strict=True))
    number = {pair: index for index, pair in enumerate(ends)}
    relative = pairs_of(chained, states.source, states.target)
    connected = group[states.source] == group[states.target]
    motion, scale = states.motion.clone(), states.target_scale.clone()
    # Of an accepted pair the source has scale 0: its depth is the unit of the motion.
    motion[connected] = relative.motion[connected]
    motion[connected, :, 3] *= (-relative.source_scale[connected]).exp()[:, None]
    scale[connected] = (relative.target_scale - relative.source_scale)[connected]
    before, after = states.motion.clone(), states.motion.clone()
    fresh = connected.clone()
    for index, (source, target) in enumerate(ends):
        step = target - source
        if abs(step) != 1:
            continue
        known = number.get((source - step, source))
        if known is not None and used[known]:
            before[index] = states.motion[known]
            before[index, :, 3] *= (-states.target_scale[known]).exp()
            fresh[index] = True
        known = number.get((target, target + step))
        if known is not None and used[known]:
            after[index] = states.motion[known]
            fresh[index] = True
    forth, back = (fresh & ~accepted.repeat(2)).chunk(2)
    chosen = (forth | back).repeat(2).nonzero()[:, 0]
    tried = [
        dataclasses.replace(states, motion=motion, target_scale=scale),
        dataclasses.replace(states, motion=before),
        dataclasses.replace(states, motion=after),
    ]
    return chosen, [select(one, chosen) for one in tried]
