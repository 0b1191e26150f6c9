"""Which views are compared, and how the pairs that align hold the views together."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

ALL_PAIRS_UP_TO = 12  # views: every pair is tried
_NEIGHBORS = 3  # of each view in the order of the views
_ALIKE = 3  # of each view by appearance
_NEAR = 3  # of each view by the poses there are


def candidate_pairs(
    appearance: Float[Tensor, "N D"],
    overlap: Float[Tensor, "N N"],
) -> Int64[Tensor, "P 2"]:
    """Pairs of views, the smaller number first, that may see the same place.

    Up to twelve views every pair; of more the neighbors in order, those that look alike, and those
    that overlap by the poses there are.

    Args:
        appearance: A description of each view's image.
        overlap: Share of a view's points that another sees by the poses there are.
    """
    count = len(appearance)
    if count <= ALL_PAIRS_UP_TO:
        return torch.combinations(torch.arange(count))
    chosen = torch.zeros(count, count, dtype=torch.bool)
    for reach in range(1, _NEIGHBORS + 1):
        chosen.diagonal(reach).fill_(True)
    centered = appearance - appearance.mean(0)
    alike = torch.nn.functional.normalize(centered, dim=-1)
    for scores, most in ((alike @ alike.T, _ALIKE), (overlap + overlap.T, _NEAR)):
        scores = scores.clone().fill_diagonal_(-torch.inf)
        best = scores.topk(most, dim=1).indices.cpu()
        chosen.scatter_(1, best, True)
    chosen = (chosen | chosen.T).triu(1)
    return chosen.nonzero()


def groups_of(
    count: int, pairs: Int64[Tensor, "P 2"], accepted: Bool[Tensor, " P"]
) -> Int64[Tensor, " N"]:
    """The smallest view of the group that accepted pairs connect each view with."""
    group = list(range(count))

    for a, b in pairs[accepted].tolist():
        a, b = sorted((_root(group, a), _root(group, b)))
        group[b] = a
    return torch.tensor([_root(group, view) for view in range(count)])


def _root(group: list[int], view: int) -> int:
    while group[view] != view:
        view = group[view]
    return view


def spanning_tree(
    count: int, pairs: Int64[Tensor, "P 2"], quality: Float[Tensor, " P"]
) -> list[tuple[int, int, int]]:
    """Edges (known view, new view, pair) of the trees of the best pairs, in an order to follow.

    Args:
        quality: Of each pair; pairs of quality 0 or less are not used.
    """
    order = torch.argsort(quality, descending=True).tolist()
    group = list(range(count))
    near: list[list[tuple[int, int]]] = [[] for _ in range(count)]

    for pair in order:
        if quality[pair] <= 0:
            break
        a, b = pairs[pair].tolist()
        if _root(group, a) != _root(group, b):
            group[_root(group, b)] = _root(group, a)
            near[a].append((b, pair))
            near[b].append((a, pair))
    edges, reached = [], [False] * count
    for start in range(count):
        if reached[start]:
            continue
        reached[start] = True
        waiting = [start]
        while waiting:
            view = waiting.pop(0)
            for other, pair in near[view]:
                if not reached[other]:
                    reached[other] = True
                    edges.append((view, other, pair))
                    waiting.append(other)
    return edges
