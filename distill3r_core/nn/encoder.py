"""A vision transformer with rotary positions: CroCo's, and the small students' own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill3r_core.nn.block import Block, initialize
from distill3r_core.nn.kernels.sliced import run_again
from distill3r_core.nn.rotary import grid_rotation


class PatchEmbed(nn.Module):
    """One convolution that turns every square patch into a token."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n D h w"]:
        """Tokens on the grid of patches."""
        return self.proj(images.to(self.proj.weight.dtype))


class RotaryEncoder(nn.Module):
    """Patch embedding, pre-norm blocks with rotary positions, a final norm.

    Args:
        embed: From images (n, 3, H, W) to tokens on the patch grid (n, width, h, w).
        dtype: See `Attention`.
    """

    def __init__(
        self,
        embed: nn.Module,
        *,
        width: int,
        depth: int,
        heads: int,
        eps: float = 1e-6,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.head_width = width // heads
        self.embed = embed
        self.blocks = nn.ModuleList(Block(width, heads, eps=eps, dtype=dtype) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=eps)
        initialize(self.blocks)

    @property
    def entrance(self) -> nn.Module:
        """The layers that turn pixels into tokens."""
        return self.embed

    def prepare_lower_precision(self, dtype: torch.dtype) -> None:
        """Nothing to change: these blocks cast where the type changes."""

    def forward(
        self, images: Float[Tensor, "n 3 H W"], *, recompute: bool = False
    ) -> Float[Tensor, "n P D"]:
        """Normalized tokens of every image, in row-major order of the patches.

        Args:
            images: As the weights expect them to be normalized.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
        """
        again = recompute and torch.is_grad_enabled()
        grid = self.embed(images)
        rows, columns = grid.shape[-2:]
        # (n, P, D); what is carried from block to block is as precise as the norms
        tokens = grid.flatten(2).mT.to(self.norm.weight.dtype)
        rotation = grid_rotation(rows, columns, self.head_width, device=tokens.device)
        for block in self.blocks:
            tokens = run_again(block, tokens, rotation) if again else block(tokens, rotation)
        return self.norm(tokens)
