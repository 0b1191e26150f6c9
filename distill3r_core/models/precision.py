"""Lower precision for inference, with an explicit type instead of autocast."""

import torch
from torch import nn

from distill3r_core.models.dune_encoder import DuneEncoder
from distill3r_core.models.student import Student
from distill3r_core.nn.block import Block
from distill3r_core.nn.encoder import RotaryEncoder

_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def lower_precision(student: Student, dtype: torch.dtype = torch.bfloat16) -> Student:
    """Let matrix products and convolutions run in a lower precision.

    Only their weights are cast, once. Norms, what blocks carry from one to the next, and what
    costs little and rounds much stay in float32: the way from pixels to tokens, from encoder to
    fusion, and the last layer of each head with all that follows it. So the error is no larger
    than autocast's, and nothing is cast to float32 and back around an upsampling. What is kept
    for the heads is kept in the lower precision, as the heads read it.

    Args:
        student: Changed in place; for inference only.
        dtype: Of the products.

    Returns:
        The same student.
    """
    if isinstance(student.encoder, DuneEncoder):
        # 1e-4 of a weight is too small for float16.
        _take_own_blocks(student.encoder, fold=dtype != torch.float16)
    exact: set[nn.Module] = {student.fusion.embed, *_entrance(student.encoder).modules()}
    exact |= {student.global_head.out, student.local_head.out}
    for module in student.modules():
        if isinstance(module, _PRODUCTS) and module not in exact:
            # Convolutions read channels last: theirs would be laid out anew on every call.
            module.to(dtype).to(memory_format=torch.channels_last)
    student.fusion.kept_dtype = dtype
    return student


def _take_own_blocks(encoder: DuneEncoder, *, fold: bool) -> None:
    """Give the weights of timm's blocks to ours, which cast where the type changes.

    timm's cast nothing, so they would need autocast, which asks at every operation.

    Args:
        encoder: Changed in place.
        fold: Multiply each LayerScale into the layer before it, while that is still float32.
    """
    if fold:
        _fold_scales(encoder)
    for index, block in enumerate(encoder.blocks):
        if not isinstance(block, Block):
            encoder.blocks[index] = _own_block(block)


def _own_block(block: nn.Module) -> Block:
    """Our block on the same parameters."""
    attention, norm = block.get_submodule("attn"), block.get_submodule("norm1")
    hidden = block.get_submodule("mlp.fc1")
    assert isinstance(norm, nn.LayerNorm) and isinstance(hidden, nn.Linear)
    scaled = not isinstance(block.get_submodule("ls1"), nn.Identity)
    width, heads = hidden.in_features, attention.num_heads
    assert isinstance(heads, int)
    with torch.device("meta"):  # its own parameters are not wanted
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
def _fold_scales(encoder: DuneEncoder) -> None:
    for block in encoder.blocks:
        for name, before in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
            if isinstance(block.get_submodule(name), nn.Identity):
                continue
            factors, layer = block.get_parameter(f"{name}.gamma"), block.get_submodule(before)
            assert isinstance(layer, nn.Linear)
            layer.weight.mul_(factors[:, None])
            layer.bias.mul_(factors)
            setattr(block, name, nn.Identity())


def _entrance(encoder: nn.Module) -> nn.Module:
    """What turns pixels into tokens."""
    if isinstance(encoder, DuneEncoder):
        return encoder.projection
    assert isinstance(encoder, RotaryEncoder)
    return encoder.embed
