"""Lower precision for inference, with an explicit type instead of autocast."""

import torch
from torch import nn

from distill3r_core.models.student import Student

_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def lower_precision(student: Student, dtype: torch.dtype = torch.bfloat16) -> Student:
    """Let matrix products and convolutions run in a lower precision.

    Only their weights are cast, once. Norms, what blocks carry from one to the next, the last
    layer of each head and all that follows it stay in float32, so the error is no larger than
    autocast's, and nothing is cast to float32 and back around an upsampling.

    Args:
        student: Changed in place; for inference only.
        dtype: Of the products.

    Returns:
        The same student.
    """
    exact = {student.global_head.out, student.local_head.out}
    for module in student.modules():
        if isinstance(module, _PRODUCTS) and module not in exact:
            module.to(dtype)
    return student
