"""Run a block over very many tokens with a working set that does not grow with them.

All layers but the attention itself work on each token alone, so tokens go through in slices. The
result is bit-identical: no sum changes its order.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill3r_core.nn.block import Block

SLICE = {"cuda": 32_768, "cpu": 2_048}  # tokens; enough to keep the device's units busy
_DEFAULT_SLICE = 8_192


def run_block(
    block: Block, tokens: Float[Tensor, "B T D"], *, overwrite: bool, recompute: bool = False
) -> Tensor:
    """`block(tokens)`, in slices where there are many tokens and no gradient is needed.

    Args:
        overwrite: `tokens` is not read again, its memory may take the result.
        recompute: Keep nothing for the backward pass, compute it again there.
    """
    if recompute and torch.is_grad_enabled():
        return run_again(block, tokens)
    size = slice_size(tokens.device)
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or tokens.shape[1] <= size:
        return block(tokens)
    qkv = _sliced_qkv(block, tokens, size)
    mixed = block.attn.mix(qkv)
    del qkv
    result = tokens if overwrite else torch.empty_like(tokens)
    for part in _slices(tokens.shape[1], size):
        projected = block.attn.proj(mixed[:, part].to(block.attn.proj.weight.dtype))
        state = tokens[:, part] + block.ls1(projected)
        torch.add(state, block.ls2(block.mlp(block.norm2(state))), out=result[:, part])
    return result


def run_again(part: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Run a part of a network now, and once more in the backward pass instead of keeping it."""
    done = checkpoint(part, *inputs, use_reentrant=False)
    assert isinstance(done, Tensor)
    return done


def slice_size(device: torch.device) -> int:
    """Tokens that go through the token-wise layers at once."""
    return SLICE.get(device.type, _DEFAULT_SLICE)


def _sliced_qkv(block: Block, tokens: Tensor, size: int) -> Float[Tensor, "B T C"]:
    def part_of(part: slice) -> Tensor:
        normed = block.norm1(tokens[:, part])
        return block.attn.qkv(normed.to(block.attn.qkv.weight.dtype))

    first, *others = _slices(tokens.shape[1], size)
    done = part_of(first)  # its type is known only now, as it depends on autocast
    whole = done.new_empty(tokens.shape[0], tokens.shape[1], done.shape[2])
    whole[:, first] = done
    for part in others:
        whole[:, part] = part_of(part)
    return whole


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, start + size)
