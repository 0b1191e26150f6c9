"""Predictions of single pairs, as samples of two views that pair students learn from."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

from distill3r_core.teachers.align import align
from distill3r_core.teachers.pairwise.network import PairMaps, ViewTokens
from distill3r_core.types import PreparedView, RawMaps

Value = TypeVar("Value")

_VIEWS, _PAIRS = 64, 2  # that are remembered: those of a sample, and both orders of a pair


class RecentPairs:
    """Tokens of the last views and maps of the last pair, by what the network is shown.

    The pairs of a sample come one after another, each in both orders: every view is then encoded
    once, and every order decoded once.

    Args:
        encode: The encoder.
        decode: The decoder and the heads, on views (i, j).
    """

    def __init__(
        self,
        encode: Callable[[PreparedView], ViewTokens],
        decode: Callable[[ViewTokens, ViewTokens], tuple[PairMaps, PairMaps]],
    ) -> None:
        self._encode, self._decode = encode, decode
        self._tokens: OrderedDict[Hashable, ViewTokens] = OrderedDict()
        self._maps: OrderedDict[Hashable, tuple[PairMaps, PairMaps]] = OrderedDict()

    def maps(self, one: PreparedView, two: PreparedView) -> tuple[PairMaps, PairMaps]:
        """What the network says of views (i, j)."""
        keys = _key(one), _key(two)

        def decoded() -> tuple[PairMaps, PairMaps]:
            tokens = [
                _recall(self._tokens, key, lambda view=view: self._encode(view), _VIEWS)
                for key, view in zip(keys, (one, two), strict=True)
            ]
            return self._decode(*tokens)

        return _recall(self._maps, keys, decoded, _PAIRS)


def pair_maps(recent: RecentPairs, one: PreparedView, two: PreparedView) -> RawMaps:
    """The prediction of a pair (i, j) in the frame of camera i.

    The local map of j is that of the other order, where j comes first. Its similarity carries it
    onto the map of j in camera i, fitted on the surest pixels of that map; where none fits, the
    view has no valid pixel.
    """
    of_one, of_two = recent.maps(one, two)
    own, _ = recent.maps(two, one)
    points = [part.points[0].float().cpu() for part in (of_one, own, of_two)]
    confidence = [part.confidence[0].float().cpu() for part in (of_one, own, of_two)]
    finite = points[1].isfinite().all(-1) & points[2].isfinite().all(-1)
    similarity = align(points[1], points[2], confidence[2], finite)
    identity = torch.eye(3, 4)
    return RawMaps(
        points_local=points[:2],
        confidence_local=confidence[:2],
        confidence_global=[confidence[0], confidence[2]],
        points_global=[points[0], points[2]],
        valid_mask=[torch.full(points[0].shape[:2], True), finite & (similarity is not None)],
        global_from_local=torch.stack([identity, identity if similarity is None else similarity]),
    )


def _key(view: PreparedView) -> Hashable:
    """What the network sees of a view."""
    pixels = view.image.contiguous().numpy().tobytes()
    return tuple(view.image.shape), hashlib.blake2b(pixels, digest_size=16).digest()


def _recall(
    kept: "OrderedDict[Hashable, Value]", key: Hashable, make: Callable[[], Value], most: int
) -> Value:
    """A value that is kept, or is made and kept; the one that was used longest ago goes."""
    if key not in kept:
        kept[key] = make()
        while len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
