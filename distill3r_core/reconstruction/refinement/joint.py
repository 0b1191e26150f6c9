"""All poses, scales and the focal length at once, over the pairs that align."""

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.reconstruction.refinement.motions import (
    adjoint,
    chain,
    exponential,
    inverse,
    logarithm,
)
from distill3r_core.reconstruction.refinement.normal_equations import (
    Noise,
    brightness_residual,
    equations,
    noise_of,
)
from distill3r_core.reconstruction.refinement.pair_alignment import PAIRS_AT_ONCE, select
from distill3r_core.reconstruction.refinement.pyramid import Level
from distill3r_core.reconstruction.refinement.warp import PairStates, warp
from distill3r_core.report import Progress, Silent


@dataclass(frozen=True, eq=False)
class ViewStates:
    """What is estimated of the views.

    Args:
        world_from_cam: Poses.
        scale: log of the factor of each view's depth.
        focal: log of the factor of all focal lengths, ().
    """

    world_from_cam: Float[Tensor, "N 3 4"]
    scale: Float[Tensor, " N"]
    focal: Float[Tensor, ""]


def pairs_of(views: ViewStates, source: Tensor, target: Tensor) -> PairStates:
    """Directed pairs by the states of their views."""
    motion = chain(inverse(views.world_from_cam[target]), views.world_from_cam[source])
    return PairStates(
        source, target, motion, views.scale[source], views.scale[target],
        views.focal.expand(len(source)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _System:
    matrix: Tensor
    vector: Tensor
    cost: Tensor


def _assemble(
    views: ViewStates,
    pairs: PairStates,
    matrix: Float[Tensor, "P 9 9"],
    vector: Float[Tensor, "P 9"],
    cost: Float[Tensor, " P"],
    trust: Float[Tensor, " P"],
) -> _System:
    """The system of all views from those of pairs.

    A view's pose moves by a twist in its own frame, so a pair's twist is that of the source,
    carried over, minus that of the target.
    """
    count, number = len(views.scale), len(pairs.source)
    carry = torch.zeros(number, 9, 15, dtype=torch.float64, device=matrix.device)
    carry[:, :6, :6] = adjoint(pairs.motion)
    carry[:, :6, 6:12] = -torch.eye(6, dtype=torch.float64, device=matrix.device)
    for row, column in ((6, 12), (7, 13), (8, 14)):
        carry[:, row, column] = 1
    block = trust[:, None, None] * (carry.mT @ matrix @ carry)
    part = trust[:, None] * (carry.mT @ vector[..., None])[..., 0]
    six = torch.arange(6, device=matrix.device)
    where = torch.cat(
        [
            6 * pairs.source[:, None] + six,
            6 * pairs.target[:, None] + six,
            6 * count + pairs.source[:, None],
            6 * count + pairs.target[:, None],
            torch.full_like(pairs.source[:, None], 7 * count),
        ],
        dim=1,
    )
    size = 7 * count + 1
    whole = torch.zeros(size * size, dtype=torch.float64, device=matrix.device)
    flat = where[:, :, None] * size + where[:, None, :]
    whole.index_add_(0, flat.flatten(), block.flatten())
    right = torch.zeros(size, dtype=torch.float64, device=matrix.device)
    right.index_add_(0, where.flatten(), part.flatten())
    return _System(whole.view(size, size), right, (trust * cost).sum())


def _moved(views: ViewStates, step: Float[Tensor, " D"]) -> ViewStates:
    count = len(views.scale)
    twist = step[: 6 * count].view(count, 6)
    return ViewStates(
        chain(views.world_from_cam, exponential(twist)),
        views.scale + step[6 * count : 7 * count],
        views.focal + step[-1],
    )


# Pixels of a pair err together, by the smooth errors of its depth: they count as so many
# independent ones where they are weighed against what is known beforehand.
_INDEPENDENT = 30


@dataclass(frozen=True)
class JointPriors:
    """What holds the directions that the images do not determine.

    Args:
        scale: Expected deviation of a view's log scale from the start.
        focal: Expected deviation of the log focal length, for each pair; 0: fixed.
    """

    scale: float = 0.3
    focal: float = 0.05


def refine_jointly(
    levels: list[Level],
    views: ViewStates,
    source: Tensor,
    target: Tensor,
    trust: Float[Tensor, " P"],
    *,
    priors: JointPriors = JointPriors(),
    rounds: int = 10,
    step: int = 1,
    progress: Progress = Silent(),
) -> ViewStates:
    """Poses, scales and focal length that explain all pairs best.

    Args:
        levels: Coarse to fine.
        views: Where the search starts.
        source: Sources of the directed pairs.
        target: Their targets.
        trust: Weight of each pair.
        rounds: Evaluations on each level, at most.
        step: See `warp`; of the finest level.
    """
    start = views
    progress.begin("refine jointly", total=len(levels), unit="levels")
    for number, level in enumerate(levels):
        thinned = step if number == len(levels) - 1 else 1
        views = _refine_level(level, views, start, source, target, trust, priors, rounds, thinned)
        progress.advance()
    return views


def _evaluate(
    level: Level, pairs: PairStates, noise: Noise | None, step: int
) -> tuple[Tensor, Tensor, Tensor, Noise]:
    """Systems and costs of all pairs, a part at a time."""
    parts = []
    for chosen in torch.arange(len(pairs.source), device=pairs.source.device).split(PAIRS_AT_ONCE):
        warped = warp(level, select(pairs, chosen), step=step)
        if noise is None:
            known = noise_of(warped, brightness_residual(warped))
        else:
            known = Noise(noise.brightness[chosen], noise.depth[chosen])
        found = equations(warped, known)
        parts.append((found.matrix, found.vector, found.cost.double(), known))
    matrix, vector, cost = (torch.cat([part[k] for part in parts]) for k in range(3))
    noise = Noise(
        torch.cat([part[3].brightness for part in parts]),
        torch.cat([part[3].depth for part in parts]),
    )
    return matrix, vector, cost, noise


def _refine_level(
    level: Level, views: ViewStates, start: ViewStates, source: Tensor, target: Tensor,
    trust: Tensor, priors: JointPriors, rounds: int, step: int,
) -> ViewStates:  # fmt: skip
    count = len(views.scale)
    noise, system = None, None
    best, candidate, damping = views, views, 1e-3
    for _ in range(rounds):
        pairs = pairs_of(candidate, source, target)
        matrix, vector, cost, noise = _evaluate(level, pairs, noise, step)
        found = _assemble(candidate, pairs, matrix, vector, cost, trust)
        found = _with_priors(found, candidate, start, priors, float(trust.sum()))
        if system is None or found.cost < system.cost:
            gained = torch.inf if system is None else float(system.cost - found.cost)
            best, system, damping = candidate, found, max(damping / 5, 1e-6)
            if gained < 1e-5 * float(found.cost):
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
        free = torch.ones(7 * count + 1, dtype=torch.bool, device=trust.device)
        free[-1] = priors.focal > 0
        A = system.matrix[free][:, free]
        diagonal = A.diagonal()
        extra = damping * diagonal + 1e-9 * diagonal.mean()
        solved = torch.linalg.solve(A + torch.diag(extra), -system.vector[free])
        change = torch.zeros_like(system.vector)
        change[free] = solved
        candidate = _moved(best, change)
    return best


def _with_priors(
    system: _System, views: ViewStates, start: ViewStates, priors: JointPriors, pairs: float
) -> _System:
    """The system with the cost of leaving the start.

    Args:
        pairs: Sum of the trust in all pairs. The focal length is held by a share of it: however
            many pairs there are, they share the errors of its views' depth.
    """
    count = len(views.scale)
    matrix, vector = system.matrix.clone(), system.vector.clone()
    off = views.scale - start.scale
    where = torch.arange(6 * count, 7 * count, device=off.device)
    weight = 1 / (_INDEPENDENT * priors.scale**2)
    matrix[where, where] += weight
    vector[where] += weight * off
    cost = system.cost + weight * off.square().sum() / 2
    if priors.focal > 0:
        weight = pairs / (_INDEPENDENT * priors.focal**2)
        drift = views.focal - start.focal
        matrix[-1, -1] += weight
        vector[-1] += weight * drift
        cost = cost + weight * drift.square() / 2
    return _System(matrix, vector, cost)


def close_loops(
    views: ViewStates,
    pairs: PairStates,
    matrix: Float[Tensor, "P 9 9"],
    trust: Float[Tensor, " P"],
    *,
    rounds: int = 20,
) -> ViewStates:
    """A pose graph: poses and scales that agree best with the motions of pairs.

    Every pair pulls by its own Gauss-Newton matrix at its own optimum, and pairs that contradict
    the others lose their weight (Geman and McClure's function).

    Args:
        views: Where the search starts.
        pairs: Pairs at their optimum, each in the unit of its source's depth.
        matrix: Gauss-Newton's matrix there.
        trust: Weight of each pair.
    """
    widths = None
    for round_ in range(rounds):
        now = pairs_of(views, pairs.source, pairs.target)
        # The pair's motion is in units of its source at scale 0; the views' in the world's.
        growth = (views.scale[pairs.source] - pairs.source_scale)[:, None]
        shift = pairs.motion[:, :, 3] * growth.exp()
        wanted = torch.cat([pairs.motion[:, :, :3], shift[..., None]], dim=-1)
        off = torch.zeros(len(pairs.source), 9, dtype=torch.float64, device=matrix.device)
        off[:, :6] = logarithm(chain(now.motion, inverse(wanted)))
        ratio = now.target_scale - now.source_scale
        off[:, 7] = ratio - (pairs.target_scale - pairs.source_scale)
        # Derivatives: a source that grows makes the wanted shift and the wanted scale grow.
        turn = torch.eye(9, dtype=torch.float64, device=matrix.device).repeat(len(off), 1, 1)
        turn[:, 3:6, 6] = -shift
        turn[:, 7, 6] = -1
        turn[:, 6, 6] = 0
        size = torch.stack([off[:, :3].norm(dim=1), off[:, 3:6].norm(dim=1)], dim=1)
        error = size.amax(1)
        if widths is None or round_ < rounds // 2:
            widths = (3 * error.median()).clamp(min=1e-4)
        weight = trust / (1 + (error / widths).square()).square()
        system = _assemble(
            views,
            now,
            turn.mT @ matrix @ turn,
            (turn.mT @ matrix @ off[..., None])[..., 0],
            error,
            weight,
        )
        diagonal = system.matrix.diagonal()
        keep = 1e-6 * diagonal.mean()
        damped = system.matrix + torch.diag(1e-4 * diagonal + keep)
        views = _moved(views, torch.linalg.solve(damped, -system.vector))
        views = dataclasses.replace(views, focal=torch.zeros_like(views.focal))
    return views
