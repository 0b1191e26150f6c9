"""The spec of DUNE's encoder (arXiv:2503.14405): a DINOv2 ViT with registers, built by timm."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import nn

from distill3r_core.config import STRICT
from distill3r_core.models.encoders.dune_network import LAYER_SCALE, REGISTERS, DuneEncoder
from distill3r_core.models.spec import Channels, Count, require_divisible
from distill3r_core.nn.encoder import PatchEmbed

TIMM_NAMES = {
    "vits14": "vit_small_patch14_reg4_dinov2",
    "vitb14": "vit_base_patch14_reg4_dinov2",
}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DuneSpec:
    """DUNE's vision transformer."""

    patch: ClassVar[int] = 14
    extra_tokens: ClassVar[int] = 1 + REGISTERS
    stem_width: ClassVar[int | None] = None

    kind: Literal["dune"]
    arch: Literal["vits14", "vitb14"]
    width: Channels
    depth: Count
    heads: Count
    position_grid: Count = 32  # rows of the square table of positions: 32 at 448 pixels, 24 at 336

    @model_validator(mode="after")
    def _check_heads(self) -> "DuneSpec":
        require_divisible(self.width, self.heads)
        return self

    def build(self) -> DuneEncoder:
        """Build the encoder with random weights."""
        import timm  # 6 to 11 seconds: only where it is used

        vit: Any = timm.create_model(  # its parts are typed as any module
            TIMM_NAMES[self.arch],
            pretrained=False,
            num_classes=0,
            img_size=self.patch * self.position_grid,
            dynamic_img_size=True,
            embed_dim=self.width,
            depth=self.depth,
            num_heads=self.heads,
            init_values=LAYER_SCALE,
        )
        with torch.device("meta"):  # timm's convolution takes the place of its own
            patch_embed = PatchEmbed(self.patch, self.width)
        patch_embed.proj = vit.patch_embed.proj
        return DuneEncoder(
            patch_embed,
            nn.ModuleList(vit.blocks),
            vit.norm,
            width=self.width,
            grid=self.position_grid,
        )
