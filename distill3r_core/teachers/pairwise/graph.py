"""Which pairs of a sample's views a pairwise network is shown."""

import re
from collections.abc import Iterable

from distill3r_core.errors import ConfigError

GRAPHS = "complete, swin-K, logwin-K or oneref"
_WINDOW = re.compile(r"(swin|logwin)-(\d+)")


def check_graph(name: str) -> str:
    """The name of a graph.

    Raises:
        ConfigError: There is no such graph.
    """
    window = _WINDOW.fullmatch(name)
    if name in ("complete", "oneref") or (window is not None and int(window[2]) > 0):
        return name
    raise ConfigError(f"unknown graph of pairs {name!r}", hint=f"{GRAPHS}, K a number above 0")


def pairs_of(views: int, graph: str) -> list[tuple[int, int]]:
    """Ordered pairs of different views, each of them in both orders.

    Args:
        views: Number of views.
        graph: "complete": all pairs; "swin-K": each view with its K successors, cyclic;
            "logwin-K": with those 1, 2, 4, ... 2^(K-1) further on, cyclic; "oneref": the first
            view with all others.

    Raises:
        ConfigError: There is no such graph.
    """
    check_graph(graph)
    window = _WINDOW.fullmatch(graph)
    if window is not None:
        count = int(window[2])
        offsets = (
            [2**step for step in range(count)] if window[1] == "logwin" else range(1, count + 1)
        )
        found = _cyclic(views, offsets)
    elif graph == "oneref":
        found = [(0, other) for other in range(1, views)]
    else:
        found = [(one, other) for one in range(views) for other in range(one)]
    return [*found, *((other, one) for one, other in found)]


def neighboring(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs in an order in which both orders of a pair follow each other."""
    return sorted(pairs, key=lambda pair: (min(pair), max(pair), pair))


def _cyclic(views: int, offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Unordered pairs of views that are one of the offsets apart, in a circle of views."""
    found: dict[frozenset[int], tuple[int, int]] = {}
    for view in range(views):
        for offset in offsets:
            other = (view + offset) % views
            if other != view:
                found.setdefault(frozenset((view, other)), (view, other))
    return list(found.values())
