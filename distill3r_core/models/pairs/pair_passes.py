"""Run a pair student over the views of a sample: which pairs, in which order, how many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.models.pairs.chunks import pair_chunk_of
from distill3r_core.models.pairs.spec import PairSpec
from distill3r_core.models.pairs.view_maps import AnchorMaps, MapsOfView, places_by_size
from distill3r_core.models.student import HeadName, Recompute
from distill3r_core.models.tokens.view_groups import Group
from distill3r_core.nn.progress import ProgressCallback
from distill3r_core.types import PointMap

Grid = tuple[int, int]


@runtime_checkable
class PairSteps(Protocol):
    """The steps of a pair student; see `PairStudent`."""

    @property
    def spec(self) -> PairSpec: ...
    @property
    def device(self) -> torch.device: ...

    def encode_groups(
        self, groups: Sequence[Group], *, recompute: bool, on_progress: ProgressCallback
    ) -> list[Float[Tensor, "B _n _P D"]]: ...

    def fuse(
        self,
        first: Float[Tensor, "n P D"],
        second: Float[Tensor, "n Q D"],
        grids: tuple[Grid, Grid],
        *,
        recompute: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]: ...

    def decode(
        self,
        layers: Sequence[Float[Tensor, "n P _"]],
        grid: Grid,
        *,
        second: bool,
        chunk: int | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = ...,
    ) -> PointMap[Tensor]: ...


@dataclass(frozen=True)
class PairPasses:
    """How a pass is run; the arguments are those of `PairStudent.forward`."""

    student: PairSteps
    head: HeadName
    head_chunk: int | None
    recompute: Recompute
    host: bool
    on_progress: ProgressCallback

    def run(self, groups: Sequence[Group]) -> list[MapsOfView]:
        """Both maps of every view, in the order of the sample, each (B, H, W, ...)."""
        tokens, grids = self._encode(groups)
        anchor, here = tokens[0], grids[0]
        out = torch.device("cpu") if self.host else self.student.device
        self.on_progress("fusion", 0)
        self.on_progress("heads", 0)
        if len(tokens) == 1:
            layers, _ = self._fuse([anchor], [anchor], (here, here))
            self.on_progress("fusion", 1)
            (own,) = self._heads(layers, here, second=False, parts=1)
            return [self._asked(_moved(own, out), _moved(own, out))]
        seen, global_maps = AnchorMaps(), dict[int, PointMap[Tensor]]()
        local_maps, numbers = dict[int, PointMap[Tensor]](), dict[int, int]()
        for places in places_by_size(grids, chunk=self._chunk(groups, anchor)):
            others, there = [tokens[place] for place in places], grids[places[0]]
            for place in places:
                numbers[place] = len(numbers)
            anchors = [anchor] * len(places)
            first, second = self._fuse(anchors, others, (here, there))
            self.on_progress("fusion", len(places))
            for own in self._heads(first, here, second=False, parts=len(places)):
                seen.add(own)
            if self.head != "local":
                maps = self._heads(second, there, second=True, parts=len(places))
                for place, found in zip(places, maps, strict=True):
                    global_maps[place] = _moved(found, out)
            if self.head != "global":
                turned, _ = self._fuse(others, anchors, (there, here))
                self.on_progress("fusion", len(places))
                maps = self._heads(turned, there, second=False, parts=len(places))
                for place, found in zip(places, maps, strict=True):
                    local_maps[place] = _moved(found, out)
        own = _moved(seen.surest, out)
        rest = [
            self._asked(
                _scaled(global_maps.get(place), seen.factor(numbers[place])),
                local_maps.get(place),
            )
            for place in range(1, len(tokens))
        ]
        return [self._asked(own, own), *rest]

    def _encode(self, groups: Sequence[Group]) -> tuple[list[Float[Tensor, "B _P D"]], list[Grid]]:
        """Tokens and grid of every view, in the order of the sample."""
        found = dict[int, tuple[Tensor, Grid]]()
        encoded = self.student.encode_groups(
            groups, recompute=self.recompute == "all", on_progress=self.on_progress
        )
        for group, tokens in zip(groups, encoded, strict=True):
            for row, place in enumerate(group.places):
                found[place] = tokens[:, row], group.grid
        ordered = [found[place] for place in sorted(found)]
        return [tokens for tokens, _ in ordered], [grid for _, grid in ordered]

    def _chunk(self, groups: Sequence[Group], anchor: Tensor) -> int:
        """Pairs of the anchor that go through decoder and heads at once."""
        pairs = sum(len(group.places) for group in groups) - 1
        if torch.is_grad_enabled():
            return pairs
        largest = max((group.images.shape[-2:] for group in groups), key=lambda size: size.numel())
        size = (largest[0], largest[1])
        chunk = self.head_chunk or pair_chunk_of(
            self.student.spec, size, self.student.device, views=pairs + 1
        )
        return max(1, chunk // len(anchor))

    def _fuse(
        self, first: Sequence[Tensor], second: Sequence[Tensor], grids: tuple[Grid, Grid]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Pairs of several views and a batch as rows: those of the first pair first."""
        return self.student.fuse(
            torch.cat(list(first)),
            torch.cat(list(second)),
            grids,
            recompute=self.recompute == "all",
        )

    def _heads(
        self, layers: list[Tensor], grid: Grid, *, second: bool, parts: int
    ) -> list[PointMap[Tensor]]:
        """The maps of each of the pairs that were fused together, (B, H, W, ...)."""
        maps = self.student.decode(
            layers,
            grid,
            second=second,
            chunk=self.head_chunk if torch.is_grad_enabled() else None,
            recompute=self.recompute != "none",
        )
        self.on_progress("heads", parts)
        points, confidence = maps.points.chunk(parts), maps.confidence.chunk(parts)
        return [PointMap(*both) for both in zip(points, confidence, strict=True)]

    def _asked(
        self, global_map: PointMap[Tensor] | None, local_map: PointMap[Tensor] | None
    ) -> MapsOfView:
        return MapsOfView(
            global_map if self.head != "local" else None,
            local_map if self.head != "global" else None,
        )


def _moved(found: PointMap[Tensor], device: torch.device) -> PointMap[Tensor]:
    return PointMap(found.points.to(device), found.confidence.to(device))


def _scaled(found: PointMap[Tensor] | None, factor: Tensor | None) -> PointMap[Tensor] | None:
    if found is None or factor is None:
        return found
    factor = factor.to(found.points.device)[:, None, None, None]
    return PointMap(factor * found.points, found.confidence)
