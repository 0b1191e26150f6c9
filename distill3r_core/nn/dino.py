"""DINOv2's vision transformer (arXiv:2304.07193), with or without registers (arXiv:2309.16588)."""

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from distill3r_core.nn.block import Block
from distill3r_core.nn.encoder import PatchEmbed
from distill3r_core.nn.kernels.sliced import run_again
from distill3r_core.prediction import StepCallback, ignore_steps

PATCH_SIZE = 14
# How a position table is resized to another grid: "scale" by the factor (length + 0.1) / grid,
# which is itself what the sample positions are computed from, without antialias (DINOv2 without
# registers, DUNE, Depth Anything 3); "size" to the length, with antialias (DINOv2 with registers,
# VGGT, Pi3).
Resizing = Literal["scale", "size"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_OFFSET = 0.1  # patches; DINOv2 adds it so that rounding cannot lose a row of the table


class DinoTrunk(nn.Module):
    """Patches, a class token and registers through pre-norm blocks.

    Args:
        patch_embed: From pixels to tokens.
        blocks: The blocks, in order; each maps tokens (n, T, width) to tokens.
        norm: Behind the last block.
        width: Channels of a token.
        grid: Rows of the square table of positions.
        registers: Number of register tokens, which have no position.
        resizing: How the table of positions is resized.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed,
        blocks: nn.ModuleList,
        norm: nn.Module,
        *,
        width: int,
        grid: int,
        registers: int = 0,
        resizing: Resizing = "size",
    ) -> None:
        super().__init__()
        self.grid = grid
        self.resizing: Resizing = resizing
        self.patch_size = patch_embed.proj.kernel_size[0]
        self.special = 1 + registers  # tokens before the patches
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.blocks = blocks
        self.norm = norm

    def embed(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n T D"]:
        """Tokens before the first block: class token, registers, patches in row-major order.

        Args:
            images: As the weights expect them to be normalized.
        """
        grid = self.patch_embed(images)
        positions = self.position_table(*grid.shape[-2:])
        first = self.cls_token + positions[:, :1]
        special = [first] if self.register_tokens is None else [first, self.register_tokens]
        placed = grid.flatten(2).mT + positions[:, 1:]
        return torch.cat([*(part.expand(len(grid), -1, -1) for part in special), placed], dim=1)

    def position_table(self, rows: int, columns: int) -> Float[Tensor, "1 T D"]:
        """The class token's row, then one row per patch, for any grid of patches."""
        if rows == columns == self.grid:
            return self.pos_embed
        own, table = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        table = resized_table(table, (rows, columns), grid=self.grid, resizing=self.resizing)
        return torch.cat([own, table], dim=1)

    def forward(
        self,
        images: Float[Tensor, "n 3 H W"],
        *,
        recompute: bool = False,
        on_progress: StepCallback = ignore_steps,
    ) -> Float[Tensor, "n P D"]:
        """Normalized patch tokens of every image, in row-major order.

        Args:
            images: As the weights expect them to be normalized.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
            on_progress: Called before the first block and with every block.
        """
        tokens = self.run_blocks(images, recompute=recompute, on_progress=on_progress)
        return self.norm(tokens[:, self.special :])

    def run_blocks(
        self,
        images: Float[Tensor, "n 3 H W"],
        *,
        recompute: bool = False,
        on_progress: StepCallback = ignore_steps,
    ) -> Float[Tensor, "n T D"]:
        """All tokens behind the last block, before the norm; arguments as in `forward`."""
        tokens = self.embed(images)
        again = recompute and torch.is_grad_enabled()
        on_progress("encoder", 0, len(self.blocks))
        for index, block in enumerate(self.blocks):
            tokens = run_again(block, tokens) if again else block(tokens)
            on_progress("encoder", index + 1, len(self.blocks))
        return tokens


def build_trunk(
    *,
    width: int,
    depth: int,
    heads: int,
    grid: int,
    registers: int = 0,
    resizing: Resizing = "size",
    norm_eps: float = 1e-6,
    qk_norm_from: int | None = None,
    patch_size: int = PATCH_SIZE,
    layer_scale: float | None = 1.0,
) -> DinoTrunk:
    """A trunk of our own blocks; further arguments as in `DinoTrunk`.

    Args:
        depth: Number of blocks.
        heads: Attention heads.
        norm_eps: Epsilon of the final layer norm; that of the blocks is 1e-6.
        qk_norm_from: First block with normalized queries and keys (epsilon 1e-5); None: none.
        patch_size: Pixels along a patch.
        layer_scale: Initial value of the blocks' LayerScale; None: without.
    """
    first_normed = depth if qk_norm_from is None else qk_norm_from
    patch_embed = PatchEmbed(patch_size, width)
    blocks = nn.ModuleList(
        Block(
            width,
            heads,
            layer_scale=layer_scale,
            qk_norm=1e-5 if index >= first_normed else None,
        )
        for index in range(depth)
    )
    norm = nn.LayerNorm(width, eps=norm_eps)
    return DinoTrunk(
        patch_embed, blocks, norm, width=width, grid=grid, registers=registers, resizing=resizing
    )


def normalize(images: Float[Tensor, "*batch 3 H W"]) -> Float[Tensor, "*batch 3 H W"]:
    """Images in [0, 1], by ImageNet's mean and deviation."""
    mean, deviation = (
        images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    return (images - mean) / deviation


def resized_table(
    table: Float[Tensor, "1 G D"], size: tuple[int, int], *, grid: int, resizing: Resizing
) -> Float[Tensor, "1 P D"]:
    """A square table of positions, resized bicubically to another grid of patches.

    Args:
        table: One row per patch of the square grid, in row-major order.
        size: Rows and columns of the grid that is wanted.
        grid: Rows of the square one.
        resizing: See `Resizing`.
    """
    if size == (grid, grid):
        return table
    square = table.unflatten(1, (grid, grid))  # (1, g, g, D)
    kind = torch.promote_types(table.dtype, torch.float32)
    matrix = _resizing_matrix if torch.compiler.is_compiling() else _kept_matrix
    down, across = (matrix(grid, length, resizing, kind, table.device) for length in size)
    with torch.autocast(table.device.type, enabled=False):
        # Two products: torch's bicubic kernel walks over the channels of a pixel one by one,
        # which on a GPU takes longer than a block.
        resized = torch.einsum("rg,ngkd,ck->nrcd", down, square.to(kind), across)
    return resized.flatten(1, 2).to(table.dtype)


def _resizing_matrix(
    grid: int, length: int, resizing: Resizing, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "length grid"]:
    """How much each row of the table adds to each row of one of another length."""
    with torch.inference_mode(False):  # so that training may read it as well
        rows = torch.eye(grid, dtype=dtype, device=device)[None, None]
        if resizing == "scale":
            factor = ((length + _OFFSET) / grid, 1.0)
            found = interpolate(rows, scale_factor=factor, mode="bicubic", antialias=False)
        else:
            found = interpolate(rows, (length, grid), mode="bicubic", antialias=True)
    assert found.shape[-2:] == (length, grid)
    return found[0, 0]


# On a GPU these are many small kernels before any large one.
_kept_matrix = lru_cache(maxsize=64)(_resizing_matrix)
