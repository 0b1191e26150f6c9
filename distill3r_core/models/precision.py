"""Lower precision for inference, with an explicit type instead of autocast."""

import torch
from torch import nn

from distill3r_core.models.dune_encoder import DuneEncoder
from distill3r_core.models.student import Student
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
    exact: set[nn.Module] = {student.fusion.embed, *_entrance(student.encoder).modules()}
    exact |= {student.global_head.out, student.local_head.out}
    if isinstance(student.encoder, DuneEncoder) and dtype != torch.float16:
        _fold_scales(student.encoder)  # 1e-4 of a weight is too small for float16
    for module in student.modules():
        if isinstance(module, _PRODUCTS) and module not in exact:
            # Convolutions read channels last: theirs would be laid out anew on every call.
            module.to(dtype).to(memory_format=torch.channels_last)
    student.fusion.kept_dtype = dtype
    return student


@torch.no_grad()
def _fold_scales(encoder: DuneEncoder) -> None:
    """Multiply each LayerScale into the layer before it, while that is still float32."""
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
