"""Where the alignment of a pair may start."""

import dataclasses
import math

import torch
from jaxtyping import Float
from torch import Tensor

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
    count = len(given.source)
    whole = PairStates(*(torch.cat([getattr(one, name) for one in tried]) for name in vars(given)))
    moved = align_pairs(levels[:COARSE], whole, label="find starts", progress=progress)
    quality = check_pairs(levels[min(COARSE, len(levels)) - 1], moved).quality
    best = quality.view(len(tried), count).argmax(0)
    return select(moved, best * count + torch.arange(count, device=best.device))
