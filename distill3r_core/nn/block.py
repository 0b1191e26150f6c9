"""The pre-norm transformer block that all networks here are made of."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from distill3r_core.nn.attention import Attention
from distill3r_core.nn.rotary import Rotation


class Mlp(nn.Module):
    """Linear, exact GELU, linear; works on each token by itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """Map every token; cast to the type of the weights."""
        return self.fc2(gelu(self.fc1(tokens.to(self.fc1.weight.dtype))))


class LayerScale(nn.Module):
    """A learned factor per channel (arXiv:2103.17239)."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, tokens: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        """Multiply every channel by its factor."""
        return tokens * self.gamma


class Block(nn.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`.

    Args:
        eps: Epsilon of both layer norms: 1e-6 in CroCo's encoder, 1e-5 in its decoders.
        mlp_ratio: Hidden channels of the MLP over `width`.
        layer_scale: Initial value of a LayerScale on both branches; None: without.
        scale: See `Attention`.
        dtype: See `Attention`.
        qk_norm: See `Attention`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        eps: float = 1e-6,
        mlp_ratio: float = 4.0,
        layer_scale: float | None = None,
        scale: float = 1.0,
        dtype: torch.dtype | None = None,
        qk_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, scale=scale, dtype=dtype, qk_norm=qk_norm)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(
        self, tokens: Float[Tensor, "B T D"], rotation: Rotation | None = None
    ) -> Float[Tensor, "B T D"]:
        """One layer over all tokens of each item."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), rotation))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


def initialize(module: nn.Module) -> None:
    """Start the linear layers below `module` as transformers are: Xavier, zero bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
