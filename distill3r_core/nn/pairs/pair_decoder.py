"""Two transformers that attend to each other, one for each image of a pair (CroCo v2, DUSt3R)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from distill3r_core.nn.attention import Attention
from distill3r_core.nn.block import Mlp, initialize
from distill3r_core.nn.kernels.sliced import run_again
from distill3r_core.nn.rotary import Rotation, rotate


class CrossAttention(nn.Module):
    """Attention from the tokens of one image to those of the other.

    Args:
        width: Channels of a token.
        heads: Number of heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq, self.projk, self.projv = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "B T D"],
        others: Float[Tensor, "B S D"],
        rotation: Rotation,
        other_rotation: Rotation,
    ) -> Float[Tensor, "B T D"]:
        """Let every token attend to all tokens of the other image.

        Args:
            tokens: Source of the queries.
            others: Source of keys and values.
            rotation: Positions of `tokens`.
            other_rotation: Positions of `others`.
        """
        query, key, value = (
            layer(x.to(layer.weight.dtype)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.projq, tokens), (self.projk, others), (self.projv, others))
        )  # (B, heads, T, head width) each
        mixed = scaled_dot_product_attention(
            rotate(query, rotation), rotate(key, other_rotation), value
        )
        return self.proj(mixed.transpose(1, 2).flatten(2))


class PairBlock(nn.Module):
    """Attention within an image, to the other image, and an MLP, each behind a layer norm.

    Args:
        width: Channels of a token.
        heads: Attention heads.
        eps: Epsilon of all layer norms.
        mlp_ratio: Hidden channels of the MLP over `width`.
    """

    def __init__(
        self, width: int, heads: int, *, eps: float = 1e-6, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3, self.norm_y = (
            nn.LayerNorm(width, eps=eps) for _ in range(4)
        )
        self.attn = Attention(width, heads)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(
        self,
        tokens: Float[Tensor, "B T D"],
        others: Float[Tensor, "B S D"],
        rotation: Rotation,
        other_rotation: Rotation,
    ) -> Float[Tensor, "B T D"]:
        """One layer over the tokens of one image.

        Args:
            tokens: Tokens of this image.
            others: Tokens of the other one, as they were before this layer.
            rotation: Positions of `tokens`.
            other_rotation: Positions of `others`.
        """
        tokens = tokens + self.attn(self.norm1(tokens), rotation)
        seen = self.cross_attn(self.norm2(tokens), self.norm_y(others), rotation, other_rotation)
        tokens = tokens + seen
        return tokens + self.mlp(self.norm3(tokens))


class PairDecoder(nn.Module):
    """The two branches; each layer of both reads what the layer before gave in both.

    Args:
        encoder_width: Channels of a token of the encoder.
        width: Channels of a token here.
        depth: Blocks of each branch.
        heads: Attention heads.
        eps: Epsilon of all layer norms.
        mlp_ratio: Hidden channels of the MLPs over `width`.
    """

    def __init__(
        self,
        encoder_width: int,
        *,
        width: int,
        depth: int,
        heads: int,
        eps: float = 1e-6,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, width)
        self.first, self.second = (
            nn.ModuleList(
                PairBlock(width, heads, eps=eps, mlp_ratio=mlp_ratio) for _ in range(depth)
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        initialize(self)

    def forward(
        self,
        first: Float[Tensor, "B T C"],
        second: Float[Tensor, "B S C"],
        rotations: tuple[Rotation, Rotation],
        *,
        layers: Sequence[int],
        recompute: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The layers that were asked for, of both branches.

        Args:
            first: Encoder tokens of the image in whose frame both maps will be.
            second: Encoder tokens of the other image.
            rotations: Positions of both.
            layers: Numbers of the layers, in rising order: 0 are the tokens of the encoder, the
                last one is behind the final norm.
            recompute: Keep nothing inside a block for the backward pass, compute it again there.
        """
        kept = {0: (first, second)}
        kind = self.embed.weight.dtype
        pair = (self.embed(first.to(kind)), self.embed(second.to(kind)))
        here, there = rotations
        again = recompute and torch.is_grad_enabled()

        def run(block: nn.Module, *inputs: Tensor | Rotation) -> Tensor:
            return run_again(block, *inputs) if again else block(*inputs)

        for number, (one, two) in enumerate(zip(self.first, self.second, strict=True), start=1):
            pair = (run(one, *pair, here, there), run(two, pair[1], pair[0], there, here))
            if number in layers:
                kept[number] = pair
        kept[len(self.first)] = (self.norm(pair[0]), self.norm(pair[1]))
        return [kept[number][0] for number in layers], [kept[number][1] for number in layers]
