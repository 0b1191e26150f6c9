"""Multi-head self-attention on torch's fused kernels, and which kernel a device prefers."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from distill3r_core.nn.rotary import Rotation, rotate

HOPPER = 9  # compute capability from which cuDNN's kernel beats the others (1.27 x on Hopper)


class Attention(nn.Module):
    """Self-attention: fused qkv with bias, softmax, projection with bias.

    Args:
        scale: Factor on the usual softmax scale, one over the root of a head's width.
        dtype: Type of the product and the softmax, whatever surrounds them (autocast included);
            None: that of their inputs. Fast3R takes bfloat16 on a GPU.
        qk_norm: Epsilon of a layer norm of each head's queries and keys, before they are rotated,
            shared by the heads (arXiv:2302.05442); None: without.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        scale: float = 1.0,
        dtype: torch.dtype | None = None,
        qk_norm: float | None = None,
    ) -> None:
        super().__init__()
        assert width % heads == 0, f"{heads} heads do not divide {width} channels"
        self.heads = heads
        self.scale = scale * (width // heads) ** -0.5
        self.dtype = dtype
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        norms = (
            nn.Identity() if qk_norm is None else nn.LayerNorm(width // heads, eps=qk_norm)
            for _ in range(2)
        )
        self.q_norm, self.k_norm = norms

    def forward(
        self, tokens: Float[Tensor, "B T D"], rotation: Rotation | None = None
    ) -> Float[Tensor, "B T D"]:
        """Let every token of an item attend to all of them.

        Args:
            tokens: Any float type; cast to that of the weights.
            rotation: Rotary position embedding of queries and keys.
        """
        qkv = self.qkv(tokens.to(self.qkv.weight.dtype))
        mixed = self.mix(qkv, rotation)
        return self.proj(mixed.to(qkv.dtype))

    def mix(
        self, qkv: Float[Tensor, "B T C"], rotation: Rotation | None = None
    ) -> Float[Tensor, "B T D"]:
        """The part of attention that sees more than one token: product, softmax, weighted sum.

        Args:
            qkv: Queries, keys, values side by side (C = 3 D), each head-major.
            rotation: Rotary position embedding of queries and keys.
        """
        query, key, value = (  # (B, heads, T, head width) each
            qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        kind = self.dtype
        with nullcontext() if kind is None else torch.autocast(qkv.device.type, enabled=False):
            if kind is not None:
                query, key, value = (part.to(kind) for part in (query, key, value))
            mixed = scaled_dot_product_attention(query, key, value, scale=self.scale)
        return mixed.transpose(1, 2).flatten(2)  # (B, T, D)


def preferred_kernels(device: torch.device) -> AbstractContextManager[object]:
    """Inside this, attention takes the fastest kernel of the device that fits its inputs."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < HOPPER:
        return nullcontext()
    order = [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]
    return sdpa_kernel(order, set_priority=True)
