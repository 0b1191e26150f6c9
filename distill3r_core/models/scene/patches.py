"""The transformer of the scene family."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, interpolate, leaky_relu, scaled_dot_product_attention

from distill3r_core.errors import RequestError
from distill3r_core.models.scene.convolutional import pad_to_multiple
from distill3r_core.models.scene.spec import Attention, PatchSpec

# Rows and columns of the images that the table of positions is laid out for (arXiv:2412.02039).
TABLE_SIZE = (368, 512)
_MLP_RATIO = 4


class PatchBlock(nn.Module):
    """A pre-norm block with dropout on both branches and on the attention's weights.

    Args:
        attention: "none" maps each token by itself: the values go on unmixed.
    """

    def __init__(self, width: int, heads: int, *, rate: float, attention: Attention) -> None:
        super().__init__()
        self.heads, self.rate, self.attention = heads, rate, attention
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1 = nn.Linear(width, _MLP_RATIO * width)
        self.fc2 = nn.Linear(_MLP_RATIO * width, width)

    def forward(self, tokens: Float[Tensor, "n T D"]) -> Float[Tensor, "n T D"]:
        """One layer over the tokens of each image."""
        tokens = tokens + self._dropped(self.proj(self._mixed(self.norm1(tokens))))
        hidden = self._dropped(gelu(self.fc1(self.norm2(tokens))))
        return tokens + self._dropped(self.fc2(hidden))

    def _mixed(self, tokens: Float[Tensor, "n T D"]) -> Float[Tensor, "n T D"]:
        queries, keys, values = self.qkv(tokens).chunk(3, dim=-1)
        if self.attention == "none":
            return values
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, heads, T, D / heads)
            for part in (queries, keys, values)
        )
        rate = self.rate if self.training else 0.0
        mixed = scaled_dot_product_attention(queries, keys, values, dropout_p=rate)
        return mixed.transpose(1, 2).flatten(2)

    def _dropped(self, tokens: Tensor) -> Tensor:
        return dropout(tokens, self.rate, self.training) if self.rate else tokens


class PatchNetwork(nn.Module):
    """Patches and a class token through a transformer, enlarged, and mapped pixel by pixel."""

    def __init__(self, spec: PatchSpec) -> None:
        super().__init__()
        self.patch, self.edges = spec.patch, spec.edges
        self.table = tuple(self._patches(side) for side in TABLE_SIZE)
        rows, columns = self.table
        self.embed = nn.Linear(3 * spec.patch**2, spec.width)
        self.class_token = nn.Parameter(torch.zeros(spec.width))
        self.positions = nn.Parameter(torch.randn(1 + rows * columns, spec.width) * spec.positions)
        self.blocks = nn.ModuleList(
            PatchBlock(spec.width, spec.heads, rate=spec.dropout, attention=spec.attention)
            for _ in range(spec.depth)
        )
        widths = (spec.width, *(spec.head_width,) * 3)
        self.head = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in pairwise(widths)
        )
        self.out = nn.Conv2d(spec.head_width, 3, 1)

    def forward(self, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n C H W"]:
        """What `out` makes coordinates of, for every pixel.

        Raises:
            RequestError: With `edges: drop`, a side is shorter than a patch.
        """
        height, width = images.shape[-2:]
        tokens, grid = self._tokens(images)
        for block in self.blocks:
            tokens = block(tokens)
        features = tokens[:, 1:].transpose(1, 2).unflatten(-1, grid)  # (n, D, rows, columns)
        # A 1x1 convolution before the enlargement is the same as after it, and cheaper: the
        # weights of the interpolation add up to 1.
        first, *others = self.head
        features = first(features)
        size = (height, width)
        if self.edges == "pad":
            size = (grid[0] * self.patch, grid[1] * self.patch)
        features = interpolate(features, size=size, mode="bilinear")[..., :height, :width]
        for layer in others:
            features = layer(leaky_relu(features))
        return leaky_relu(features)

    def _patches(self, side: int) -> int:
        return -(-side // self.patch) if self.edges == "pad" else side // self.patch

    def _tokens(self, images: Tensor) -> tuple[Float[Tensor, "n T D"], tuple[int, int]]:
        """Class token and patches with their positions, and rows and columns of patches."""
        rows, columns = (self._patches(side) for side in images.shape[-2:])
        if not rows or not columns:
            raise RequestError(
                f"images of {images.shape[-2]}x{images.shape[-1]} are smaller than a patch of "
                f"{self.patch}",
                hint="larger images, a smaller model.network.patch, or model.network.edges=pad",
            )
        if self.edges == "pad":
            images = pad_to_multiple(images, self.patch)
        images = images[..., : rows * self.patch, : columns * self.patch]
        patches = images.unflatten(-2, (rows, self.patch)).unflatten(-1, (columns, self.patch))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (n, P, 3 * patch^2)
        tokens = self.embed(patches)
        first = self.class_token.expand(len(tokens), 1, -1)
        return torch.cat([first, tokens], dim=1) + self._positions((rows, columns)), (rows, columns)

    def _positions(self, grid: tuple[int, int]) -> Float[Tensor, "T D"]:
        if grid == self.table:
            return self.positions
        table = self.positions[1:].unflatten(0, self.table).movedim(-1, 0)[None]
        resized = interpolate(table, size=grid, mode="bilinear")[0].flatten(1).T
        return torch.cat([self.positions[:1], resized])
