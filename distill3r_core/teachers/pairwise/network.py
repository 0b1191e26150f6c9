"""The network of DUSt3R and MASt3R: both images' points in the frame of the first one's camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.encoder import PatchEmbed, RotaryEncoder
from distill3r_core.nn.maps import predict_maps
from distill3r_core.nn.outputs import confidence_from_raw, points_from_raw
from distill3r_core.nn.pairs.descriptor_head import DescriptorHead
from distill3r_core.nn.pairs.pair_decoder import PairDecoder
from distill3r_core.nn.rotary import grid_rotation


@dataclass(frozen=True)
class PairSize:
    """Sizes of the network; the defaults are those of the releases with DPT heads.

    Args:
        width: Channels of a token of the encoder.
        depth: Blocks of the encoder.
        heads: Attention heads of the encoder.
        decoder_width: Channels of a token of the decoder.
        decoder_depth: Blocks of each of its branches.
        decoder_heads: Attention heads of the decoder.
        head: Whether points come from a DPT head or from one linear layer.
        features: Channels of the merged maps of a DPT head.
        layer_widths: Channels of a DPT head's four taps after their 1x1 convolutions.
        descriptors: Channels of a pixel's descriptor; 0: none.
        patch_size: Pixels along a patch.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    decoder_width: int = 768
    decoder_depth: int = 12
    decoder_heads: int = 12
    head: Literal["dpt", "linear"] = "dpt"
    features: int = 256
    layer_widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    descriptors: int = 0
    patch_size: int = 16


@dataclass(frozen=True)
class ViewTokens:
    """An image behind the encoder.

    Args:
        tokens: Normalized patch tokens in row-major order.
        grid: Rows and columns of patches.
    """

    tokens: Float[Tensor, "B P D"]
    grid: tuple[int, int]


@dataclass(frozen=True)
class PairMaps:
    """What the network says of one image of a pair.

    Args:
        points: In the frame of the first image's camera; in meters where the weights are metric.
        confidence: `1 + exp(logit)`, in [1, inf).
        descriptors: Local features of length 1; None where there are none.
        descriptor_confidence: `exp(logit)`, in (0, inf); None where there are none.
    """

    points: Float[Tensor, "B H W 3"]
    confidence: Float[Tensor, "B H W"]
    descriptors: Float[Tensor, "B H W C"] | None = None
    descriptor_confidence: Float[Tensor, "B H W"] | None = None


class LinearHead(nn.Module):
    """Points and confidence of a patch's pixels from its last token.

    Args:
        width: Channels of a token.
        patch_size: Pixels along a patch.
    """

    def __init__(self, width: int, *, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(width, 4 * patch_size**2)

    def forward(
        self, tokens: Float[Tensor, "B P D"], grid: tuple[int, int]
    ) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W"]]:
        """Points and confidence of every pixel."""
        raw = pixel_shuffle(self.proj(tokens).mT.unflatten(-1, grid), self.patch_size)
        raw = raw.permute(0, 2, 3, 1)  # (B, H, W, 4)
        return points_from_raw(raw[..., :3]), confidence_from_raw(raw[..., 3])


class PairNetwork(nn.Module):
    """The network in float32; encoder and decoder may run under autocast.

    Args:
        size: Sizes of the network.
    """

    def __init__(self, size: PairSize | None = None) -> None:
        super().__init__()
        self.size = size = size or PairSize()
        self.encoder = RotaryEncoder(
            PatchEmbed(size.patch_size, size.width),
            width=size.width,
            depth=size.depth,
            heads=size.heads,
        )
        self.decoder = PairDecoder(
            size.width,
            width=size.decoder_width,
            depth=size.decoder_depth,
            heads=size.decoder_heads,
        )

        def points_head() -> DPTHead | LinearHead:
            if size.head == "linear":
                return LinearHead(size.decoder_width, patch_size=size.patch_size)
            return DPTHead(
                (size.width, *[size.decoder_width] * 3),
                patch_size=size.patch_size,
                features=size.features,
                layer_widths=size.layer_widths,
                spare_unit=True,
            )

        # One for each image of a pair.
        self.point_heads = nn.ModuleList(points_head() for _ in range(2))
        self.descriptor_heads = nn.ModuleList(
            DescriptorHead(
                size.width + size.decoder_width,
                channels=size.descriptors,
                patch_size=size.patch_size,
            )
            for _ in range(2 if size.descriptors else 0)
        )

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> ViewTokens:
        """Tokens of images of one size, which every pair that they are in can use.

        Args:
            images: RGB in [-1, 1], sides multiples of the patch size.
        """
        rows, columns = (side // self.size.patch_size for side in images.shape[-2:])
        return ViewTokens(self.encoder(images), (rows, columns))

    def decode(
        self, first: ViewTokens, second: ViewTokens, *, descriptors: bool = False
    ) -> tuple[PairMaps, PairMaps]:
        """Maps of both images of each pair, in the frame of the first one's camera.

        Args:
            first: The image whose camera's frame both maps are in.
            second: The other image; its size may differ.
            descriptors: Run the descriptor heads too.
        """
        views = (first, second)
        width = self.size.decoder_width // self.size.decoder_heads
        one, two = (grid_rotation(*view.grid, width, device=view.tokens.device) for view in views)
        layers = self.decoder(
            first.tokens,
            second.tokens,
            (one, two),
            layers=hooked_layers(self.size.decoder_depth),
        )
        with torch.autocast(first.tokens.device.type, enabled=False):
            maps = [
                self._maps(side, layers[side], views[side].grid, descriptors=descriptors)
                for side in (0, 1)
            ]
        return maps[0], maps[1]

    def forward(
        self,
        first: Float[Tensor, "B 3 H W"],
        second: Float[Tensor, "B 3 _ _"],
        *,
        descriptors: bool = False,
    ) -> tuple[PairMaps, PairMaps]:
        """Maps of both images of each pair, in the frame of the first one's camera.

        Args:
            first: RGB in [-1, 1], sides multiples of the patch size.
            second: The same; its size may differ.
            descriptors: Run the descriptor heads too.
        """
        return self.decode(self.encode(first), self.encode(second), descriptors=descriptors)

    def _maps(
        self,
        side: int,
        layers: Sequence[Float[Tensor, "B P _"]],
        grid: tuple[int, int],
        *,
        descriptors: bool,
    ) -> PairMaps:
        head = self.point_heads[side]
        kind = next(head.parameters()).dtype
        layers = [layer.to(kind) for layer in layers]
        if isinstance(head, DPTHead):
            found = predict_maps(head, layers, grid)
            points, confidence = found.points, found.confidence
        else:
            points, confidence = head(layers[-1], grid)
        if not descriptors:
            return PairMaps(points, confidence)
        assert self.size.descriptors, "these weights have no descriptors"
        tokens = torch.cat([layers[0], layers[-1]], dim=-1)
        return PairMaps(points, confidence, *self.descriptor_heads[side](tokens, grid))
