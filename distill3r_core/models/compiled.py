"""torch.compile for inference, where the machine can do it."""

import copy

import torch
from torch import Tensor

from distill3r_core.models.student import Student


def compile_parts(student: Student, images: Tensor) -> str | None:
    """Compile encoder and heads, and try them.

    The fusion stays as it is: its time is in one fused attention kernel per block.

    Args:
        student: Changed in place; keeps its names and weights. For inference only.
        images: An input of the size that is to come, (B, N, 3, H, W); run once.

    Returns:
        None where it worked, else why the student runs uncompiled.
    """
    for part in (student.encoder, student.global_head, student.local_head):
        part.compile()
    try:
        with torch.inference_mode():
            student(images)
    except (RuntimeError, OSError, ImportError) as error:
        # Compilers fail in many ways; all of theirs are runtime errors. Copies share the weights
        # and forget that they were compiled.
        student.encoder = copy.copy(student.encoder)
        student.global_head = copy.copy(student.global_head)
        student.local_head = copy.copy(student.local_head)
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None
