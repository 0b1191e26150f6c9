"""The multiview student: an encoder for each view, a fusion of all views, two heads."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.errors import RequestError
from distill3r_core.models.encoders.dune_network import DuneEncoder
from distill3r_core.models.multiview.engine import Engine
from distill3r_core.models.multiview.groups import assemble
from distill3r_core.models.multiview.map_size import MapSize, give_size
from distill3r_core.models.multiview.spec import MultiviewSpec, ViewCodes
from distill3r_core.models.student import HeadName, OneHead, Recompute
from distill3r_core.models.tokens.token_student import TokenStudent
from distill3r_core.models.tokens.view_groups import group_by_size
from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.encoder import RotaryEncoder
from distill3r_core.nn.fusion import Fusion
from distill3r_core.nn.maps import predict_maps
from distill3r_core.nn.progress import ProgressCallback, Stretch, no_progress
from distill3r_core.nn.view_codes import (
    TABLE_ROWS,
    generator_from_global,
    random_view_numbers,
    sequential_view_numbers,
)
from distill3r_core.types import Images, PointMap, PointMaps


class MultiviewStudent(TokenStudent):
    """Point maps of many views in one pass.

    Args:
        encoder: From normalized images (n, 3, H, W) to patch tokens (n, P, D).
        global_head: Predicts points in the frame of view 0's camera.
        local_head: Predicts points in each view's own frame.
        map_size: Predicts the size of each view; None: maps have that of the heads.
    """

    # The fusion stays as it is: its time is in one fused attention kernel per block.
    COMPILED: ClassVar[tuple[str, ...]] = ("encoder", "global_head", "local_head")
    APART: ClassVar[tuple[str, ...]] = ("map_size",)

    spec: MultiviewSpec

    def __init__(
        self,
        *,
        encoder: DuneEncoder | RotaryEncoder,
        fusion: Fusion,
        global_head: DPTHead,
        local_head: DPTHead,
        map_size: MapSize | None = None,
        spec: MultiviewSpec,
    ) -> None:
        super().__init__(spec, spec.normalization)
        self.encoder = encoder
        self.fusion = fusion
        self.global_head = global_head
        self.local_head = local_head
        self.map_size = map_size

    def forward(
        self,
        images: Images | Sequence[Float[Tensor, "3 _ _"]],
        *,
        head: HeadName = "both",
        head_chunk: int | None = None,
        view_codes: ViewCodes | None = None,
        generator: torch.Generator | None = None,
        view_numbers: Int[Tensor, "B N"] | None = None,
        recompute: Recompute = "none",
        host: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> PointMaps | list[PointMaps]:
        """Points and confidences for every pixel of every view; see `Student.forward`.

        Args:
            images: RGB in [0, 1], sides multiples of the patch; on the device of the weights, or
                elsewhere, from where they are fetched a few at a time. A list holds the views of
                one sample, which may differ in size.
            head: Maps to predict. Those of a head that is not run are None.
            head_chunk: Views that go through a head at once; None: what suits the device.
            view_codes: How views are numbered; None: as the spec says while training, else
                sequentially.
            generator: Source of random view numbers, on the CPU; None: one seeded from torch's
                global one.
            view_numbers: Number of every view, on any device; None: as the two above say.
            recompute: What a backward pass computes again instead of keeping it: the heads (a
                quarter more work, less than half the memory), or every block as well.
            host: Return the maps on the host. Without gradients they go there by way of pinned
                memory.
            on_progress: Receives the progress of the pass: views, blocks and maps.

        Returns:
            Maps with the axes of `images`; for a list, one entry per view, each (1, H, W, ...).

        Raises:
            RequestError: A side is not a multiple of the patch, or there are more than 1000 views.
        """
        groups = group_by_size(images, self.spec.encoder.patch)
        batch, count = len(groups[0].images), sum(len(group.places) for group in groups)
        if view_numbers is None:
            view_numbers = self._view_numbers(batch, count, view_codes, generator)
        engine = Engine(self, head, head_chunk, recompute, host, on_progress)
        layers, lengths = engine.fuse(groups, view_numbers)
        maps = assemble(
            engine.decode(groups, layers, lengths), as_list=not isinstance(images, Tensor)
        )
        return self.sized(maps, layers[-1], lengths)

    def sized(
        self,
        maps: PointMaps | list[PointMaps],
        tokens: Float[Tensor, "B T C"],
        lengths: Sequence[int],
    ) -> PointMaps | list[PointMaps]:
        """The maps of a pass at the size that its last tokens say, where the student predicts it.

        Args:
            maps: Of all views at once, or of each view of one sample.
            tokens: The last layer of `fuse`.
            lengths: Number of tokens of every view.
        """
        if self.map_size is None:
            return maps
        return give_size(maps, self.map_size(tokens, lengths))

    def tokens_of(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool
    ) -> Float[Tensor, "n P D"]:
        """Patch tokens of normalized images."""
        return self.encoder(images, recompute=recompute)

    def fuse(
        self,
        tokens: Float[Tensor, "B T D"],
        view_numbers: Int[Tensor, "B N"],
        view_lengths: Sequence[int],
        *,
        recompute: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> list[Tensor]:
        """Let all views attend to each other: the four layers that heads read, (B, T, channels).

        Args:
            tokens: Tokens of all views, one view after the other.
            view_numbers: Number of every view, below 1000.
            view_lengths: Number of tokens of every view; they add up to T.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
            on_progress: Called after every block.
        """
        return self.fusion(
            tokens,
            view_numbers,
            view_lengths,
            layers=hooked_layers(self.spec.fusion.depth),
            recompute=recompute,
            on_progress=on_progress,
        )

    def decode(
        self,
        layers: Sequence[Float[Tensor, "n P _"]],
        grid: tuple[int, int],
        *,
        head: OneHead,
        chunk: int | None = None,
        into: PointMap[Tensor] | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> PointMap[Tensor]:
        """The map of one head, (n, H, W, ...).

        Args:
            layers: The four layers of `fuse`, one row per view.
            grid: Rows and columns of patches.
            chunk: Views that go through it at once; None: all.
            into: Memory for the map, on any device; only without gradients.
            recompute: Keep nothing of a chunk for the backward pass, compute it again there.
            on_progress: Called after every chunk, without gradients.
        """
        return predict_maps(
            self.global_head if head == "global" else self.local_head,
            layers,
            grid,
            chunk=chunk,
            into=into,
            recompute=recompute,
            on_progress=on_progress,
        )

    def progress_totals(self, views: int, head: HeadName) -> dict[Stretch, tuple[int, str]]:
        """Views through the encoder, blocks of the fusion, maps of the heads."""
        heads = 2 if head == "both" else 1
        return {
            "encoder": (views, "views"),
            "fusion": (len(self.fusion.blocks), "blocks"),
            "heads": (heads * views, "maps"),
        }

    def prepare_lower_precision(self, dtype: torch.dtype) -> None:
        """Let the encoder's blocks cast themselves, and keep layers for the heads in `dtype`."""
        self.encoder.prepare_lower_precision(dtype)
        self.fusion.kept_dtype = dtype

    def exact_layers(self) -> Iterator[nn.Module]:
        """The layers from pixels to tokens, from encoder to fusion, and the last of each head."""
        yield from self.encoder.entrance.modules()
        yield from (self.fusion.embed, self.global_head.out, self.local_head.out)

    def _view_numbers(
        self,
        batch: int,
        count: int,
        view_codes: ViewCodes | None,
        generator: torch.Generator | None,
    ) -> Int[Tensor, "B N"]:
        if count > TABLE_ROWS:
            raise RequestError(f"{count} views: this student can tell {TABLE_ROWS} apart")
        default = self.spec.view_codes if self.training else "sequential"
        if (view_codes or default) == "sequential":
            return sequential_view_numbers(batch, count)
        return random_view_numbers(batch, count, generator or generator_from_global())
