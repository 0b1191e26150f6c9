"""Refine the poses of a reconstruction by direct image alignment: the whole way."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from distill3r_core.geometry.similarity import scale_of
from distill3r_core.profiling import stopwatch
from distill3r_core.reconstruction.refinement.focals import fit_intrinsics
from distill3r_core.reconstruction.refinement.joint import (
    JointPriors,
    ViewStates,
    close_loops,
    pairs_of,
    refine_jointly,
)
from distill3r_core.reconstruction.refinement.judgement import (
    check_pairs,
    contradicted_pairs,
    judge_pairs,
    promising_pairs,
)
from distill3r_core.reconstruction.refinement.motions import chain, inverse
from distill3r_core.reconstruction.refinement.pair_alignment import (
    align_pairs,
    pair_matrices,
    select,
)
from distill3r_core.reconstruction.refinement.pair_graph import (
    candidate_pairs,
    groups_of,
    spanning_tree,
)
from distill3r_core.reconstruction.refinement.pyramid import Level, build_pyramid
from distill3r_core.reconstruction.refinement.starts import (
    COARSE,
    most_promising,
    start_of,
    starts_by_neighbors,
)
from distill3r_core.reconstruction.refinement.warp import PairStates
from distill3r_core.report import Progress, Silent

_THUMBNAIL = (8, 8)

# Where the work ends: pairs followed along a tree, loops closed, or all views refined together.
LastStep = Literal["pairs", "loops", "joint"]


@dataclass(frozen=True, eq=False)
class Refinement:
    """Refined poses of the views of one scene.

    Args:
        world_from_local: The similarity `[sR | t]` that carries each view's local points into the
            world, in the unit and frame of those given. A view that is not aligned keeps its own.
        intrinsics: K in pixels of the maps, with the refined focal length.
        focal_factor: Refined over given focal length.
        aligned: Views that images and depth place; False: the pose is the one given.
        group: The smallest view of the group of views that are placed relative to each other.
        residual: Median absolute difference of brightness (RGB in [0, 1]) over each view's pairs
            after gain and offset; NaN where a view is not aligned.
        agreement: Median share, over the same pairs, of points whose depths agree within 10 %.
        pairs: The pairs that were tried.
        accepted: Those that align.
        contradicted: Those that would be accepted by themselves and contradict all others.
        seconds: Time it took.
    """

    world_from_local: Float[Tensor, "N 3 4"]
    intrinsics: Float[Tensor, "N 3 3"]
    focal_factor: float
    aligned: Bool[Tensor, " N"]
    group: Int64[Tensor, " N"]
    residual: Float[Tensor, " N"]
    agreement: Float[Tensor, " N"]
    pairs: Int64[Tensor, "P 2"]
    accepted: Bool[Tensor, " P"]
    contradicted: Bool[Tensor, " P"]
    seconds: float


def refine_poses(
    images: Float[Tensor, "N 3 H W"],
    points_local: Float[Tensor, "N H W 3"],
    world_from_local: Float[Tensor, "N 3 4"],
    *,
    valid_mask: Bool[Tensor, "N H W"] | None = None,
    intrinsics: Float[Tensor, "N 3 3"] | None = None,
    fixed_focal: bool = False,
    features: Float[Tensor, "N D"] | None = None,
    until: LastStep = "joint",
    progress: Progress = Silent(),
) -> Refinement:
    """Align the images of a scene by the depth of its local maps.

    Args:
        images: RGB in [0, 1], in order of capture where they have one.
        points_local: Points in each camera's own frame, of any scale; anything outside the mask.
        world_from_local: Where the model places them, `[sR | t]`.
        valid_mask: Pixels that count; None: all finite points in front of their camera.
        intrinsics: K in pixels of the maps; None: one focal length (for each axis) that fits the
            points of all views, and the middle of the image.
        fixed_focal: Keep the focal length.
        features: A description of each image, by which similar views are paired; None: a thumbnail.
        until: The last step; an earlier one than "joint" shows what the others gain.

    Returns:
        Poses in the frame and unit given; views that do not align keep theirs.
    """
    with stopwatch(images.device) as watch:
        depth = points_local[..., 2]
        mask = points_local.isfinite().all(-1) & (depth > 0)
        if valid_mask is not None:
            mask &= valid_mask
        K = fit_intrinsics(points_local, mask) if intrinsics is None else intrinsics
        scale = scale_of(world_from_local.double())
        sizes = (scale[:, None, None] * depth)[mask]
        unit = sizes.median() if len(sizes) else scale.new_tensor(1.0)
        levels = build_pyramid(
            images.float(), (scale[:, None, None] * depth / unit).float(), mask, K.float()
        )
        given = _views_of(world_from_local.double(), scale, unit)
        if features is None:
            features = functional.interpolate(images, _THUMBNAIL, mode="area").flatten(1)
        graph = _align(levels, given, features, progress)
        views = given
        if graph.accepted.any():
            views = _refined(levels, given, graph, progress, fixed_focal=fixed_focal, until=until)
        found = _similarities(views, scale, unit)
        found = torch.where(graph.aligned[:, None, None], found, world_from_local.double())
        residual, agreement = _of_views(levels, views, graph)
    factor = float(views.focal.exp())
    stretch = K.new_tensor([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])
    return Refinement(
        found.to(world_from_local.dtype), K * stretch, factor, graph.aligned, graph.group,
        residual, agreement, graph.pairs, graph.accepted, graph.contradicted, watch.seconds,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Graph:
    """Pairs of views with their motions, both ways: first all pairs forth, then back."""

    pairs: Int64[Tensor, "P 2"]
    states: PairStates  # 2 P
    accepted: Bool[Tensor, " P"]
    contradicted: Bool[Tensor, " P"]
    quality: Float[Tensor, " P"]
    group: Int64[Tensor, " N"]

    @property
    def aligned(self) -> Bool[Tensor, " N"]:
        """Views that are in a group with others."""
        return (self.group[:, None] == self.group).sum(1) > 1

    @property
    def used(self) -> Int64[Tensor, " D"]:
        """Directed pairs that are accepted."""
        return self.accepted.repeat(2).nonzero()[:, 0]


def _views_of(similarity: Tensor, scale: Tensor, unit: Tensor) -> ViewStates:
    motion = torch.cat(
        [similarity[:, :, :3] / scale[:, None, None], similarity[:, :, 3:] / unit], -1
    )
    return ViewStates(motion, torch.zeros_like(scale), torch.zeros_like(scale[0]))


def _similarities(views: ViewStates, scale: Tensor, unit: Tensor) -> Float[Tensor, "N 3 4"]:
    linear = views.world_from_cam[:, :, :3] * (scale * views.scale.exp())[:, None, None]
    return torch.cat([linear, views.world_from_cam[:, :, 3:] * unit], -1)


def _align(levels: list[Level], given: ViewStates, features: Tensor, progress: Progress) -> _Graph:
    """Align the pairs of a graph, each by itself; then those that failed, by way of the others."""
    device = given.scale.device
    pairs = candidate_pairs(features, _overlaps(levels[0], given)).to(device)
    both = torch.cat([pairs, pairs.flip(1)])
    start = start_of(levels, pairs_of(given, both[:, 0], both[:, 1]), progress=progress)
    states, accepted, quality = _follow_starts(levels, start, progress)
    contradicted = contradicted_pairs(pairs, states.motion[: len(pairs)], accepted)
    accepted &= ~contradicted
    group = groups_of(len(given.scale), pairs, accepted).to(device)
    first = _Graph(pairs, states, accepted, contradicted, quality, group)
    return _by_neighbors(levels, given, first, progress) if accepted.any() else first


def _follow_starts(
    levels: list[Level], start: PairStates, progress: Progress
) -> tuple[PairStates, Bool[Tensor, " P"], Float[Tensor, " P"]]:
    """Pairs, both ways, where the finer levels take them; which are accepted; their quality."""
    coarse, fine = levels[min(COARSE, len(levels)) - 1], levels[COARSE:] or levels[-1:]
    promising = promising_pairs(check_pairs(coarse, start))
    states = start
    if promising.any():
        followed = promising.repeat(2).nonzero()[:, 0]
        found = align_pairs(fine, select(start, followed), step=2, progress=progress)
        states = _with(start, followed, found)
    accepted, quality = judge_pairs(states, check_pairs(_judging(levels), states))
    return states, accepted & promising, quality


def _with(states: PairStates, chosen: Int64[Tensor, " Q"], found: PairStates) -> PairStates:
    """States with other motions and target scales of some of the pairs."""
    return dataclasses.replace(
        states,
        motion=states.motion.index_copy(0, chosen, found.motion),
        target_scale=states.target_scale.index_copy(0, chosen, found.target_scale),
    )


def _by_neighbors(
    levels: list[Level], given: ViewStates, first: _Graph, progress: Progress
) -> _Graph:
    """The graph after a second attempt at pairs whose views others have brought near."""
    chained = _follow(given, first)
    chosen, tried = starts_by_neighbors(first.states, first.accepted, chained, first.group)
    if not len(chosen):
        return first
    start = most_promising(levels, tried, label="find starts by neighbors", progress=progress)
    found, good, quality = _follow_starts(levels, start, progress)
    again = chosen[: len(good)][good]  # pairs that are accepted now
    states = _with(
        first.states,
        torch.cat([again, again + len(first.pairs)]),
        select(found, good.repeat(2).nonzero()[:, 0]),
    )
    new = torch.zeros_like(first.accepted)
    new[again] = True
    every = first.accepted | new
    # A pair of the first attempt stands: one that came later may be what is wrong in a triangle.
    contradicted = contradicted_pairs(first.pairs, states.motion[: len(new)], every) & new
    accepted = every & ~contradicted
    contradicted |= first.contradicted & ~new
    better = first.quality.index_copy(0, again, quality[good])
    group = groups_of(len(given.scale), first.pairs, accepted).to(first.group.device)
    return _Graph(first.pairs, states, accepted, contradicted, better, group)


def _judging(levels: list[Level]) -> Level:
    """Fine enough for texture, coarse enough for depths that are a little off."""
    return levels[-2] if len(levels) > 1 else levels[-1]


def _refined(
    levels: list[Level],
    given: ViewStates,
    graph: _Graph,
    progress: Progress,
    *,
    fixed_focal: bool,
    until: LastStep,
) -> ViewStates:
    """The views by all accepted pairs together."""
    views = _follow(given, graph)
    if until == "pairs":
        return _placed(views, given, graph)
    chosen = select(graph.states, graph.used)
    trust = graph.quality.repeat(2)[graph.used].double()
    views = close_loops(views, chosen, pair_matrices(_judging(levels), chosen), trust)
    if until == "loops":
        return _placed(views, given, graph)
    priors = JointPriors(focal=0.0) if fixed_focal else JointPriors()
    fine = levels[1:] or levels
    views = refine_jointly(
        fine, views, chosen.source, chosen.target, trust,
        priors=priors, step=2, progress=progress,
    )  # fmt: skip
    return _placed(views, given, graph)


def _follow(given: ViewStates, graph: _Graph) -> ViewStates:
    """The views by the motions of a tree of the best pairs."""
    pose, scale = given.world_from_cam.clone(), given.scale.clone()
    count = len(graph.pairs)
    quality = torch.where(graph.accepted, graph.quality, 0.0)
    for known, new, pair in spanning_tree(len(scale), graph.pairs.cpu(), quality.cpu()):
        index = pair if int(graph.pairs[pair, 0]) == known else pair + count
        motion = graph.states.motion[index].clone()
        motion[:, 3] *= scale[known].exp()
        pose[new] = chain(pose[known], inverse(motion))
        growth = graph.states.target_scale[index] - graph.states.source_scale[index]
        scale[new] = scale[known] + growth
    return dataclasses.replace(given, world_from_cam=pose, scale=scale)


def _placed(views: ViewStates, given: ViewStates, graph: _Graph) -> ViewStates:
    """Each group of views as a whole where the given poses have it, and as large."""
    pose, scale = views.world_from_cam.clone(), views.scale.clone()
    for first in graph.group[graph.aligned].unique():
        own = graph.group == first
        shrink = -scale[own].mean()
        scale[own] += shrink
        pose[own, :, 3] *= shrink.exp()
        wanted = given.world_from_cam[own]
        u, _, v = torch.linalg.svd((wanted[:, :, :3] @ pose[own][:, :, :3].mT).sum(0))
        sign = torch.diag(torch.stack([scale.new_tensor(1.0)] * 2 + [torch.det(u @ v).sign()]))
        turn = u @ sign @ v
        shift = (wanted[:, :, 3] - pose[own, :, 3] @ turn.T).mean(0)
        whole = torch.cat([turn, shift[:, None]], dim=-1)
        pose[own] = chain(whole.expand(int(own.sum()), 3, 4), pose[own])
    return ViewStates(pose, scale, views.focal)


def _overlaps(level: Level, views: ViewStates) -> Float[Tensor, "N N"]:
    """Share of each view's points that each other view sees."""
    count = len(views.scale)
    every = torch.cartesian_prod(*[torch.arange(count, device=views.scale.device)] * 2)
    shares = [
        check_pairs(level, pairs_of(views, some[:, 0], some[:, 1])).share
        for some in every.split(1024)
    ]
    return torch.cat(shares).view(count, count)


def _of_views(levels: list[Level], views: ViewStates, graph: _Graph) -> tuple[Tensor, Tensor]:
    """Medians over each view's accepted pairs of residual and agreement."""
    count = len(views.scale)
    residual = torch.full((count,), torch.nan, device=views.scale.device)
    agreement = residual.clone()
    source, target = graph.states.source[graph.used], graph.states.target[graph.used]
    checks = check_pairs(_judging(levels), pairs_of(views, source, target))
    for view in range(count):
        own = (source == view) | (target == view)
        if own.any():
            residual[view] = checks.residual[own].median()
            agreement[view] = checks.agreement[own].median()
    return residual, agreement
