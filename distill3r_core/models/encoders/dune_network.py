"""DUNE's encoder (arXiv:2503.14405): a DINOv2 ViT with registers on blocks from timm."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill3r_core.nn.block import Block
from distill3r_core.nn.dino import join_tokens, resized_table
from distill3r_core.nn.kernels.sliced import run_again

REGISTERS = 4
LAYER_SCALE = 1e-4


@dataclass(frozen=True)
class DuneTokens:
    """All tokens of an encoder's last layer."""

    patches: Float[Tensor, "n P D"]  # after the final norm, in row-major order
    class_token: Float[Tensor, "n D"]  # after the final norm
    registers: Float[Tensor, "n R D"]  # after the final norm
    unnormalized: Float[Tensor, "n P D"]  # patch tokens before the final norm


class DuneEncoder(nn.Module):
    """Class token, registers and patches through pre-norm blocks with LayerScale.

    Args:
        blocks: The blocks, in order.
        grid: Rows of the square table of positions.
    """

    def __init__(
        self,
        projection: nn.Conv2d,
        blocks: nn.ModuleList,
        norm: nn.Module,
        *,
        width: int,
        grid: int,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.projection = projection
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, REGISTERS, width))
        # Released files have it and no forward pass reads it: frozen, as it gets no gradient.
        self.mask_token = nn.Parameter(torch.zeros(1, width), requires_grad=False)
        self.blocks = blocks
        self.norm = norm
        for table in (self.positions, self.class_token, self.register_tokens):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool = False
    ) -> Float[Tensor, "n P D"]:
        """Normalized patch tokens of every image, in row-major order.

        Args:
            images: As the weights expect them to be normalized.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
        """
        again = recompute and torch.is_grad_enabled()
        return self.norm(self._run(images, again=again))[:, 1 + REGISTERS :]

    @property
    def entrance(self) -> nn.Module:
        """The layers that turn pixels into tokens."""
        return self.projection

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
        raw = self._run(images, again=False)
        normed = self.norm(raw)
        first = 1 + REGISTERS
        return DuneTokens(normed[:, first:], normed[:, 0], normed[:, 1:first], raw[:, first:])

    def position_table(self, rows: int, columns: int) -> Float[Tensor, "1 T D"]:
        """The class token's row, then one row per patch, for any grid of patches.

        Resized bicubically without antialias, by a scale factor that is a tenth of a patch too
        large and is itself what the sample positions are computed from: DUNE's rule, which timm's
        default does not follow.
        """
        if rows == columns == self.grid:
            return self.positions
        own, table = self.positions[:, :1], self.positions[:, 1:]
        table = resized_table(table, (rows, columns), grid=self.grid, resizing="scale")
        return torch.cat([own, table], dim=1)

    def _run(self, images: Tensor, *, again: bool) -> Float[Tensor, "n T D"]:
        grid = self.projection(images.to(self.projection.weight.dtype))
        positions = self.position_table(*grid.shape[-2:])
        first = self.class_token + positions[:, :1]
        tokens = join_tokens(grid, positions[:, 1:], first=first, registers=self.register_tokens)
        for block in self.blocks:
            tokens = run_again(block, tokens) if again else block(tokens)
        return tokens


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
