"""Lower precision for inference, with an explicit type instead of autocast."""

import torch
from torch import nn

from distill3r_core.models.student import Student

_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def lower_precision(student: Student, dtype: torch.dtype = torch.bfloat16) -> Student:
    """Let matrix products and convolutions run in a lower precision.

    Only their weights are cast, once. Norms, the residual stream, and layers that are
    cheap and sensitive to rounding stay in float32: those from pixels to tokens, from encoder to
    fusion, and the last layer of each head with all that follows it. So the error is no larger
    than autocast's, and nothing is cast to float32 and back around an upsampling. What is kept
    for the heads is kept in the lower precision, as the heads read it.

    Args:
        student: Changed in place; for inference only.

    Returns:
        The same student.
    """
    student.prepare_lower_precision(dtype)
    exact = set(student.exact_layers())
    for module in student.modules():
        if isinstance(module, _PRODUCTS) and module not in exact:
            # Convolutions read channels last; other weights would be copied on every call.
            module.to(dtype).to(memory_format=torch.channels_last)
    student.product_dtype = dtype
    return student
