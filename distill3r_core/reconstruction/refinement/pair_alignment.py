"""Align pairs of views by themselves: Levenberg-Marquardt, coarse to fine, many pairs at once."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.reconstruction.refinement.motions import chain, exponential
from distill3r_core.reconstruction.refinement.normal_equations import (
    Noise,
    brightness_residual,
    equations,
    noise_of,
)
from distill3r_core.reconstruction.refinement.pyramid import Level
from distill3r_core.reconstruction.refinement.warp import PairStates, warp
from distill3r_core.report import Progress, Silent

_LEAST_SHARE = 0.05  # of the source's pixels: with fewer a pair is not moved
PAIRS_AT_ONCE = 32  # what a processor's cache holds matters, not memory
_FREE = [0, 1, 2, 3, 4, 5, 7]  # twist and target scale; source scale and focal length are fixed


def select(pairs: PairStates, chosen: Tensor) -> PairStates:
    """Some of the pairs."""
    return PairStates(*(value[chosen] for value in vars(pairs).values()))


def align_pairs(
    levels: list[Level],
    pairs: PairStates,
    *,
    rounds: int = 15,
    step: int = 1,
    label: str = "align pairs",
    progress: Progress = Silent(),
) -> PairStates:
    """Motion and target scale of each pair that explain brightness and depth best nearby.

    Args:
        levels: Coarse to fine.
        pairs: Where the search starts.
        rounds: Evaluations on each level, at most.
        step: See `warp`; of the finest level.
        label: Name of the phase in the progress, whose steps are groups of pairs on a level.
    """
    every = torch.arange(len(pairs.source), device=pairs.source.device).split(PAIRS_AT_ONCE)
    progress.begin(label, total=len(levels) * len(every), unit="steps")
    for number, level in enumerate(levels):
        thinned = step if number == len(levels) - 1 else 1
        parts = []
        for some in every:
            parts.append(_align_level(level, select(pairs, some), rounds, thinned))
            progress.advance()
        pairs = PairStates(*(torch.cat([getattr(p, n) for p in parts]) for n in vars(pairs)))
    return pairs


def _align_level(level: Level, pairs: PairStates, rounds: int, step: int) -> PairStates:
    count = len(pairs.source)
    active = torch.arange(count, device=pairs.source.device)
    first = warp(level, pairs, slopes=False, step=step)
    noise = noise_of(first, brightness_residual(first))
    motion, scale = pairs.motion.clone(), pairs.target_scale.clone()
    kept_motion, kept_scale = motion.clone(), scale.clone()
    cost = torch.full((count,), torch.inf, dtype=torch.float64, device=motion.device)
    matrix = torch.zeros(count, 9, 9, dtype=torch.float64, device=motion.device)
    vector = torch.zeros(count, 9, dtype=torch.float64, device=motion.device)
    damping = torch.full((count,), 1e-3, dtype=torch.float64, device=motion.device)
    share = torch.zeros(count, dtype=torch.float64, device=motion.device)
    for _ in range(rounds):
        state = dataclasses.replace(
            select(pairs, active), motion=motion[active], target_scale=scale[active]
        )
        known = Noise(noise.brightness[active], noise.depth[active])
        found = equations(warp(level, state, step=step), known)
        better = (found.cost < cost[active]) & (found.share > 0.5 * share[active])
        better &= found.share > _LEAST_SHARE
        gained = cost[active] - found.cost
        chosen = active[better]
        cost[chosen], share[chosen] = found.cost[better].double(), found.share[better].double()
        matrix[chosen], vector[chosen] = found.matrix[better], found.vector[better]
        kept_motion[chosen], kept_scale[chosen] = motion[chosen], scale[chosen]
        damping[chosen] = (damping[chosen] / 5).clamp(min=1e-6)
        damping[active[~better]] *= 10
        open_ = cost[active].isfinite() & (damping[active] < 1e3)
        open_ &= ~(better & (gained < 1e-5 * found.cost))
        active = active[open_]
        if not len(active):
            break
        twist, growth = _step(matrix[active], vector[active], damping[active])
        motion[active] = chain(exponential(twist), kept_motion[active])
        scale[active] = kept_scale[active] + growth
    return dataclasses.replace(pairs, motion=kept_motion, target_scale=kept_scale)


def _step(
    matrix: Float[Tensor, "P 9 9"], vector: Float[Tensor, "P 9"], damping: Float[Tensor, " P"]
) -> tuple[Float[Tensor, "P 6"], Float[Tensor, " P"]]:
    """The damped step of twist and target scale."""
    A, g = matrix[:, _FREE][:, :, _FREE], vector[:, _FREE]
    diagonal = A.diagonal(dim1=-2, dim2=-1)
    extra = damping[:, None] * diagonal + 1e-12 * diagonal.amax(-1, keepdim=True) + 1e-12
    solved = torch.linalg.solve(A + torch.diag_embed(extra), -g)
    return solved[:, :6], solved[:, 6]


def pair_matrices(level: Level, pairs: PairStates) -> Float[Tensor, "P 9 9"]:
    """Gauss-Newton's matrix of each pair where it is."""
    parts = []
    for chosen in torch.arange(len(pairs.source), device=pairs.source.device).split(PAIRS_AT_ONCE):
        warped = warp(level, select(pairs, chosen))
        parts.append(equations(warped, noise_of(warped, brightness_residual(warped))).matrix)
    return torch.cat(parts)
