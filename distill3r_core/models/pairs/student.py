"""The pair student: an encoder for each view, a decoder for each pair with the anchor, heads."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from distill3r_core.models.encoders.mobilenet import MobileNetEncoder
from distill3r_core.models.encoders.vit import VitEncoder
from distill3r_core.models.pairs.adapter import Adapter
from distill3r_core.models.pairs.pair_passes import PairPasses
from distill3r_core.models.pairs.spec import PATCH, PairSpec
from distill3r_core.models.pairs.view_maps import assemble_views
from distill3r_core.models.student import HeadName, Recompute
from distill3r_core.models.tokens.token_student import TokenStudent
from distill3r_core.models.tokens.view_groups import group_by_size
from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.encoder import RotaryEncoder
from distill3r_core.nn.maps import predict_maps
from distill3r_core.nn.pairs.pair_decoder import PairDecoder
from distill3r_core.nn.progress import ProgressCallback, Stretch, no_progress
from distill3r_core.nn.rotary import grid_rotation
from distill3r_core.types import Images, PointMap, PointMaps


class PairStudent(TokenStudent):
    """Point maps of the pairs that the anchor forms with every other view.

    With the anchor 0 and another view i, the global map of i is what the second branch says of
    the pair (0, i), its local map what the first branch says of (i, 0). Both maps of the anchor
    are what the first branch says of it, in the pair that it is surest of. Where there are several
    pairs, each is brought to the scale of that one. A single view is paired with itself.

    Args:
        encoder: From normalized images (n, 3, H, W) to tokens (n, P, C) of 16 x 16 pixels.
        adapter: From these tokens to those of the decoder; None: the decoder reads them itself.
        first_head: Points of a pair's first view.
        second_head: Points of its second view, in the frame of the first one's camera.
        descriptor_heads: Descriptor branches of both views, which no forward pass reads.
    """

    COMPILED: ClassVar[tuple[str, ...]] = ("first_head", "second_head")

    spec: PairSpec

    def __init__(
        self,
        *,
        encoder: MobileNetEncoder | VitEncoder | RotaryEncoder,
        adapter: Adapter | None,
        decoder: PairDecoder,
        first_head: DPTHead,
        second_head: DPTHead,
        descriptor_heads: nn.ModuleList,
        spec: PairSpec,
    ) -> None:
        super().__init__(spec, spec.normalization)
        self.encoder = encoder
        self.adapter = adapter
        self.decoder = decoder
        self.first_head = first_head
        self.second_head = second_head
        self.descriptor_heads = descriptor_heads

    def forward(
        self,
        images: Images | Sequence[Float[Tensor, "3 _ _"]],
        *,
        head: HeadName = "both",
        head_chunk: int | None = None,
        view_numbers: Int[Tensor, "B N"] | None = None,
        recompute: Recompute = "none",
        host: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> PointMaps | list[PointMaps]:
        """Points and confidences for every pixel of every view; see `Student.forward`.

        Args:
            images: RGB in [0, 1], sides multiples of 16; on the device of the weights, or
                elsewhere, from where they are fetched a few at a time. A list holds the views of
                one sample, which may differ in size.
            head: Maps to predict. Those that are not asked for are None.
            head_chunk: Pairs that go through decoder and heads at once; None: what suits the
                device.
            view_numbers: Not read: this family does not number views.
            recompute: What a backward pass computes again instead of keeping it: the heads, or
                every block as well.
            host: Return the maps on the host.
            on_progress: Receives the progress of the pass: views, pairs and maps.

        Returns:
            Maps with the axes of `images`; for a list, one entry per view, each (1, H, W, ...).

        Raises:
            RequestError: There are no views, or a side is not a multiple of 16.
        """
        groups = group_by_size(images, PATCH)
        passes = PairPasses(self, head, head_chunk, recompute, host, on_progress)
        return assemble_views(passes.run(groups), as_list=not isinstance(images, Tensor))

    def tokens_of(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool
    ) -> Float[Tensor, "n P D"]:
        """Tokens of normalized images, behind the adapter."""
        tokens = self.encoder(images, recompute=recompute)
        return tokens if self.adapter is None else self.adapter(tokens)

    def fuse(
        self,
        first: Float[Tensor, "n P D"],
        second: Float[Tensor, "n Q D"],
        grids: tuple[tuple[int, int], tuple[int, int]],
        *,
        recompute: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Let the views of each pair attend to each other: the layers that the heads read.

        Args:
            first: Tokens of the views in whose frames the maps will be.
            second: Tokens of the other views.
            grids: Rows and columns of patches of both.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
        """
        head_width = self.spec.decoder.width // self.spec.decoder.heads
        here, there = (grid_rotation(*grid, head_width, device=first.device) for grid in grids)
        layers = hooked_layers(self.spec.decoder.depth)
        return self.decoder(first, second, (here, there), layers=layers, recompute=recompute)

    def decode(
        self,
        layers: Sequence[Float[Tensor, "n P _"]],
        grid: tuple[int, int],
        *,
        second: bool,
        chunk: int | None = None,
        recompute: bool = False,
        on_progress: ProgressCallback = no_progress,
    ) -> PointMap[Tensor]:
        """The maps of one side of some pairs, (n, H, W, ...).

        Args:
            layers: The four layers of `fuse` on that side.
            grid: Rows and columns of patches.
            second: Whether it is the second view's side.
            chunk: Views that go through the head at once; None: all.
            recompute: Keep nothing of a chunk for the backward pass, compute it again there.
            on_progress: Called after every chunk, without gradients.
        """
        return predict_maps(
            self.second_head if second else self.first_head,
            layers,
            grid,
            chunk=chunk,
            recompute=recompute,
            on_progress=on_progress,
        )

    def progress_totals(self, views: int, head: HeadName) -> dict[Stretch, tuple[int, str]]:
        """Views through the encoder, pairs through the decoder, maps of the heads."""
        others = max(views - 1, 1)
        reverse = 0 if head == "global" or views == 1 else others
        maps = others + (0 if head == "local" or views == 1 else others) + reverse
        return {
            "encoder": (views, "views"),
            "fusion": (others + reverse, "pairs"),
            "heads": (maps, "maps"),
        }

    def exact_layers(self) -> Iterator[nn.Module]:
        """The layers from pixels to tokens, around the adapter, and the last of each head."""
        yield from self.encoder.entrance.modules()
        if self.adapter is not None:
            yield from self.adapter.modules()
        yield from (self.decoder.embed, self.first_head.out, self.second_head.out)
