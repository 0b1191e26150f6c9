"""Cameras of all views from a maximum spanning tree of their pairs (DUSt3R, section 3.4)."""

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity, scale_of
from distill3r_core.prediction import StepCallback, ignore_steps
from distill3r_core.teachers.pairwise.predictions import PairPredictions

BASE_SCALE = 0.5  # geometric mean of the scales of all pairs: the gauge of the alignment
FOCAL_ROUNDS = 10


@dataclass(frozen=True)
class Placed:
    """Views in one world, before the optimization.

    Args:
        world_from_cam: Pose of each view.
        focals: Focal length of each view, in pixels; the principal point is its middle.
        points: Points of each view in the world, flat as in `PairPredictions`.
        similarities: `[sR | t]` that carries the points of each pair into the world.
        unplaced: Views that no pair connects with the others, or whose own map fits no pinhole
            camera; they stand at the origin.
        tree: The pairs that placed the views, in the order in which they did.
    """

    world_from_cam: Float[Tensor, "N 4 4"]
    focals: Float[Tensor, "N"]
    points: Float[Tensor, "N P 3"]
    similarities: Float[Tensor, "E 3 4"]
    unplaced: tuple[int, ...]
    tree: tuple[tuple[int, int], ...]


def place_by_tree(
    pairs: PairPredictions, *, center: float = 0.5, on_progress: StepCallback = ignore_steps
) -> Placed:
    """Place all views by the best pairs that connect them, then fit every pair to the result.

    A view's pose and focal length are those that its own map of its best-scored pair has. (The
    published code takes the focal length from the pair before in the tree, which is wrong where
    views differ in focal length, and PnP where a view was only placed as the second of a pair.)

    Args:
        pairs: Predictions; each pair in both orders.
        center: Where in its pixel a point was seen.
        on_progress: Called with every view and every pair that is placed; may raise to stop.

    Raises:
        GeometryError: No pair can be placed.
    """
    score = pairs.score()
    tree = spanning_tree(pairs, score)
    if not tree:
        raise GeometryError("no pair of views to begin with")
    points, order = _grow(pairs, tree)
    placed = {view for edge in order for view in pairs.edges[edge].tolist()}
    first = pairs.edges[:, 0].numpy()
    of_view = [np.flatnonzero(first == view) for view in range(pairs.views)]  # in its own camera
    own = [int(edges[int(score[edges].argmax())]) for edges in of_view]
    poses = torch.eye(4).repeat(pairs.views, 1, 1)
    focals = torch.ones(pairs.views)
    steps = pairs.views + len(pairs.edges)
    for view in range(pairs.views):
        on_progress("placing", view, steps)
        focal = own_focal(pairs, own[view], center=center)
        if focal is None:  # a map that no pinhole camera has seen
            placed.discard(view)
        focals[view] = max(pairs.sizes[view]) if focal is None else focal
        if view in placed:
            poses[view] = rigid_of(_fit(pairs, own[view], points))
    similarities = torch.eye(4)[:3].repeat(len(pairs.edges), 1, 1)
    for edge, view in enumerate(pairs.edges[:, 0].tolist()):
        on_progress("placing", pairs.views + edge, steps)
        if view in placed:
            similarities[edge] = _fit(pairs, edge, points)
    on_progress("placing", steps, steps)
    factor = BASE_SCALE / scale_of(similarities).log().mean().exp()
    poses[:, :3, 3] *= factor
    return Placed(
        world_from_cam=poses,
        focals=focals,
        points=points * factor,
        similarities=similarities * factor,
        unplaced=tuple(view for view in range(pairs.views) if view not in placed),
        tree=tuple((int(i), int(j)) for i, j in pairs.edges[order].tolist()),
    )


def own_focal(pairs: PairPredictions, edge: int, *, center: float = 0.5) -> float | None:
    """The focal length of the first view of a pair by its own map, in pixels; None: none fits."""
    view = int(pairs.edges[edge, 0])
    points = pairs.points_i[edge, : pairs.pixels_of(view)].float()
    try:
        return float(
            estimate_focal(
                points.reshape(*pairs.sizes[view], 3), center=center, rounds=FOCAL_ROUNDS
            )
        )
    except GeometryError:
        return None


def spanning_tree(pairs: PairPredictions, score: Float[Tensor, "E"]) -> list[int]:
    """Pairs of a maximum spanning tree, the best first; of two orders the better one counts."""
    # Here and not above: these take a quarter of a second to load, for every user of the registry.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    best: dict[tuple[int, int], int] = {}
    for edge, (i, j) in enumerate(pairs.edges.tolist()):
        key = (min(i, j), max(i, j))
        if key not in best or score[edge] > score[best[key]]:
            best[key] = edge
    rows, columns = zip(*best, strict=True)
    # Its smallest is our largest; 0 would be no edge at all.
    costs = -score[list(best.values())].numpy()
    shape = (pairs.views, pairs.views)
    found = minimum_spanning_tree(coo_array((costs, (rows, columns)), shape=shape)).tocoo()
    kept = [best[int(i), int(j)] for i, j in zip(*found.coords, strict=True)]
    return sorted(kept, key=lambda edge: -float(score[edge]))


def _grow(pairs: PairPredictions, tree: list[int]) -> tuple[Float[Tensor, "N P 3"], list[int]]:
    """Place views pair by pair, from the best one on; and in which order pairs did so."""
    points = torch.zeros(pairs.views, pairs.points_i.shape[1], 3)
    waiting = deque(tree)
    first = waiting.popleft()
    i, j = pairs.edges[first].tolist()
    points[i], points[j] = pairs.points_i[first].float(), pairs.points_j[first].float()
    placed, order, skipped = {i, j}, [first], 0
    while waiting and skipped < len(waiting):  # what is skipped by all is not connected
        edge = waiting.popleft()
        i, j = pairs.edges[edge].tolist()
        if not placed & {i, j}:
            waiting.append(edge)
            skipped += 1
            continue
        sides = [(i, pairs.points_i, pairs.confidence_i), (j, pairs.points_j, pairs.confidence_j)]
        if i not in placed:
            sides.reverse()
        (anchor, known, confidence), (other, moved, _) = sides
        count = pairs.pixels_of(anchor)
        similarity = fit_similarity(
            known[edge, :count].float(), points[anchor, :count], confidence[edge, :count]
        )
        points[other] = apply_similarity(similarity, moved[edge].float())
        placed.add(other)
        order.append(edge)
        skipped = 0
    return points, order


def _fit(pairs: PairPredictions, edge: int, points: Float[Tensor, "N P 3"]) -> Float[Tensor, "3 4"]:
    """The similarity that carries the points of a pair's first view into the world."""
    view = int(pairs.edges[edge, 0])
    count = pairs.pixels_of(view)
    local, weights = pairs.points_i[edge, :count].float(), pairs.confidence_i[edge, :count]
    return fit_similarity(local, points[view, :count], weights)
