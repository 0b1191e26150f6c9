"""Run a multiview student over the views of a sample: by size, in chunks, onto device or host.

With gradients all views go through the encoder at once, and through the heads in the chunks that
the caller chooses. Without, chunks are those that suit the device, and maps for the host go there
through pinned memory while the next chunk is computed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill3r_core.models.multiview.chunks import head_chunk_of
from distill3r_core.models.multiview.groups import join_views, tokens_of
from distill3r_core.models.multiview.spec import MultiviewSpec
from distill3r_core.models.student import HeadName, OneHead, Recompute
from distill3r_core.models.tokens.view_groups import Group
from distill3r_core.nn.progress import ProgressCallback
from distill3r_core.types import PointMap

HEADS: tuple[OneHead, OneHead] = ("global", "local")


@runtime_checkable
class Steps(Protocol):
    """The steps of a multiview student; see `MultiviewStudent`."""

    @property
    def spec(self) -> MultiviewSpec: ...
    @property
    def device(self) -> torch.device: ...

    def encode_groups(
        self, groups: Sequence[Group], *, recompute: bool, on_progress: ProgressCallback
    ) -> list[Float[Tensor, "B _n _P D"]]: ...

    def fuse(
        self,
        tokens: Float[Tensor, "B T D"],
        view_numbers: Int[Tensor, "B N"],
        view_lengths: Sequence[int],
        *,
        recompute: bool = False,
        on_progress: ProgressCallback = ...,
    ) -> list[Tensor]: ...

    def decode(
        self,
        layers: Sequence[Float[Tensor, "n P _"]],
        grid: tuple[int, int],
        *,
        head: OneHead,
        chunk: int | None = None,
        into: PointMap[Tensor] | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = ...,
    ) -> PointMap[Tensor]: ...


@dataclass(frozen=True)
class Engine:
    """How a pass is run."""

    student: Steps
    head: HeadName
    head_chunk: int | None  # views that go through a head at once; None: what suits the device
    recompute: Recompute  # what a backward pass computes again instead of keeping it
    host: bool
    on_progress: ProgressCallback  # receives the progress of the pass

    def fuse(
        self, groups: Sequence[Group], view_numbers: Int[Tensor, "B N"]
    ) -> tuple[list[Float[Tensor, "B T _C"]], list[int]]:
        """The layers that heads read, and the number of tokens of every view."""
        again = self.recompute == "all"
        encoded = self.student.encode_groups(groups, recompute=again, on_progress=self.on_progress)
        tokens, lengths = join_views(groups, encoded)
        del encoded
        layers = self.student.fuse(
            tokens, view_numbers, lengths, recompute=again, on_progress=self.on_progress
        )
        return layers, lengths

    def decode(
        self,
        groups: Sequence[Group],
        layers: Sequence[Float[Tensor, "B T _C"]],
        lengths: Sequence[int],
    ) -> Iterator[tuple[Group, dict[OneHead, PointMap[Tensor]]]]:
        """The maps of each group, (B n, H, W, ...), by head, from what `fuse` gives."""
        for group in groups:
            rows = [tokens_of(layer, group, lengths) for layer in layers]
            yield (
                group,
                {
                    name: self._decode(rows, group, name)
                    for name in HEADS
                    if self.head in ("both", name)
                },
            )

    def _decode(self, rows: Sequence[Tensor], group: Group, head: OneHead) -> PointMap[Tensor]:
        student, here = self.student, self.student.device
        out = torch.device("cpu") if self.host else here
        if torch.is_grad_enabled():
            maps = student.decode(
                rows,
                group.grid,
                head=head,
                chunk=self.head_chunk,
                recompute=self.recompute != "none",
                on_progress=self.on_progress,
            )
            return PointMap(maps.points.to(out), maps.confidence.to(out))
        count, (height, width) = len(rows[0]), group.images.shape[-2:]
        chunk = self.head_chunk or head_chunk_of(student.spec, (height, width), here, views=count)
        if chunk >= count and out == here:
            return student.decode(rows, group.grid, head=head, on_progress=self.on_progress)
        kind = torch.promote_types(rows[0].dtype, torch.float32)
        pinned = out.type == "cpu" and here.type == "cuda"
        into = PointMap(
            torch.empty(count, height, width, 3, dtype=kind, device=out, pin_memory=pinned),
            torch.empty(count, height, width, dtype=kind, device=out, pin_memory=pinned),
        )
        maps = student.decode(
            rows, group.grid, head=head, chunk=chunk, into=into, on_progress=self.on_progress
        )
        if pinned:
            torch.cuda.synchronize(here)
        return maps
