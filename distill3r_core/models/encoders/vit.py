"""Vision transformers with a table of positions (DINOv2, arXiv:2304.07193; ViT-Tiny)."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.functional import interpolate

from distill3r_core.config import STRICT
from distill3r_core.models.spec import Channels, Count, require_divisible
from distill3r_core.nn.block import initialize
from distill3r_core.nn.dino import DinoTrunk, build_trunk

CELL = 16  # pixels along the square of an image that a token stands for


@dataclass(frozen=True, config=STRICT, kw_only=True)
class VitSpec:
    """A vision transformer whose tokens lie on a grid of 16 pixels.

    Args:
        kernel: Pixels along a patch. With 14 an image is first resized by 14/16, so that its
            tokens still lie on the grid of 16 pixels.
        layer_scale: Whether blocks have a LayerScale, as DINOv2's.
        position_grid: Rows of the square table of positions: 37 of DINOv2 at 518 pixels.
    """

    patch: ClassVar[int] = CELL

    kind: Literal["vit"]
    width: Channels
    depth: Count
    heads: Count
    kernel: Literal[14, 16] = 14
    layer_scale: bool = True
    position_grid: Count = 37

    @model_validator(mode="after")
    def _check_heads(self) -> "VitSpec":
        require_divisible(self.width, self.heads)
        return self

    def build(self) -> "VitEncoder":
        """Build the encoder with random weights."""
        return VitEncoder(
            build_trunk(
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                grid=self.position_grid,
                resizing="scale" if self.layer_scale else "size",
                patch_size=self.kernel,
                layer_scale=1.0 if self.layer_scale else None,
            ),
            kernel=self.kernel,
        )


class VitEncoder(nn.Module):
    """A trunk on images whose every 16th pixel begins a token.

    Args:
        kernel: Pixels along a patch of the trunk.
    """

    def __init__(self, trunk: DinoTrunk, *, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.trunk = trunk
        initialize(trunk.blocks)
        for table in (trunk.pos_embed, trunk.cls_token):
            nn.init.trunc_normal_(table, std=0.02)

    @property
    def entrance(self) -> nn.Module:
        """The layers that turn pixels into tokens."""
        return self.trunk.patch_embed

    def prepare_lower_precision(self, dtype: torch.dtype) -> None:
        """Nothing to change: these blocks cast where the type changes."""

    def forward(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool = False
    ) -> Float[Tensor, "n P D"]:
        """Normalized patch tokens of every image, in row-major order.

        Args:
            images: As the weights expect them to be normalized.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
        """
        if self.kernel != CELL:
            rows, columns = (side // CELL * self.kernel for side in images.shape[-2:])
            images = interpolate(images, (rows, columns), mode="bilinear", antialias=True)
        return self.trunk(images, recompute=recompute)
