"""DUNE's encoder (arXiv:2503.14405): a DINOv2 ViT with registers on blocks from timm."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill3r_core.nn.block import Block
from distill3r_core.nn.dino import DinoTrunk
from distill3r_core.nn.encoder import PatchEmbed

REGISTERS = 4
LAYER_SCALE = 1e-4


@dataclass(frozen=True)
class DuneTokens:
    """All tokens of an encoder's last layer."""

    patches: Float[Tensor, "n P D"]  # after the final norm, in row-major order
    class_token: Float[Tensor, "n D"]  # after the final norm
    registers: Float[Tensor, "n R D"]  # after the final norm
    unnormalized: Float[Tensor, "n P D"]  # patch tokens before the final norm


class DuneEncoder(DinoTrunk):
    """DINOv2's trunk on blocks from timm. Its table of positions is resized by DUNE's rule.

    Args:
        patch_embed: From pixels to tokens.
        blocks: The blocks, in order.
        norm: Behind the last block.
        width: Channels of a token.
        grid: Rows of the square table of positions.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed,
        blocks: nn.ModuleList,
        norm: nn.Module,
        *,
        width: int,
        grid: int,
    ) -> None:
        # timm's default is the other rule.
        super().__init__(
            patch_embed,
            blocks,
            norm,
            width=width,
            grid=grid,
            registers=REGISTERS,
            resizing="scale",
        )
        # Released files have it and no forward pass reads it: frozen, as it gets no gradient.
        self.mask_token = nn.Parameter(torch.zeros(1, width), requires_grad=False)
        assert self.register_tokens is not None
        for table in (self.pos_embed, self.cls_token, self.register_tokens):
            nn.init.trunc_normal_(table, std=0.02)

    @property
    def entrance(self) -> nn.Module:
        """The layers that turn pixels into tokens."""
        return self.patch_embed

    def prepare_lower_precision(self, dtype: torch.dtype) -> None:
        """Give the weights of timm's blocks to ours, which cast where the type changes.

        timm's blocks never cast, so they would need autocast, which decides at every operation.
        Each LayerScale is multiplied into the layer before it while that is still float32, except
        for float16, in which 1e-4 of a weight is too small.

        Args:
            dtype: Type in which matrix products will run.
        """
        for index, block in enumerate(self.blocks):
            if dtype != torch.float16:
                _fold_scales(block)
            if not isinstance(block, Block):
                self.blocks[index] = _own_block(block)

    def all_tokens(self, images: Float[Tensor, "n 3 H W"]) -> DuneTokens:
        """Every token, before and after the final norm."""
        raw = self.run_blocks(images)
        normed = self.norm(raw)
        first = self.special
        return DuneTokens(normed[:, first:], normed[:, 0], normed[:, 1:first], raw[:, first:])


def _own_block(block: nn.Module) -> Block:
    """Our block on the same parameters."""
    attention, norm = block.get_submodule("attn"), block.get_submodule("norm1")
    hidden = block.get_submodule("mlp.fc1")
    assert isinstance(norm, nn.LayerNorm) and isinstance(hidden, nn.Linear)
    scaled = not isinstance(block.get_submodule("ls1"), nn.Identity)
    width, heads = hidden.in_features, attention.num_heads
    assert isinstance(heads, int)
    with torch.device("meta"):  # timm's own parameters are dropped
        own = Block(
            width,
            heads,
            eps=norm.eps,
            mlp_ratio=hidden.out_features / width,
            layer_scale=1.0 if scaled else None,
        )
    own.load_state_dict(block.state_dict(), assign=True)
    return own.train(block.training)


@torch.no_grad()
def _fold_scales(block: nn.Module) -> None:
    for name, before in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
        if isinstance(block.get_submodule(name), nn.Identity):
            continue
        factors, layer = block.get_parameter(f"{name}.gamma"), block.get_submodule(before)
        assert isinstance(layer, nn.Linear)
        layer.weight.mul_(factors[:, None])
        layer.bias.mul_(factors)
        setattr(block, name, nn.Identity())
