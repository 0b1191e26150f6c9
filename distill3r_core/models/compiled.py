"""torch.compile for inference, where the machine can do it."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from distill3r_core.models.student import HeadName, Student


def compile_parts(
    student: Student,
    images: Tensor | Sequence[Tensor],
    *,
    head: HeadName = "both",
    head_chunk: int | None = None,
    backend: str = "inductor",
) -> str | None:
    """Compile encoder and heads for what is to come, and try them.

    The fusion stays as it is: its time is in one fused attention kernel per block.

    Args:
        student: Changed in place; keeps its names and weights. For inference only.
        images: As many and of the sizes that are to come, as for the student; run once.
        head: Which heads will be run.
        head_chunk: Views that will go through a head at once: each number is compiled for.
        backend: Of torch.compile.

    Returns:
        None where it worked, else why the student runs uncompiled.
    """
    for part in (student.encoder, student.global_head, student.local_head):
        part.compile(backend=backend)
    try:
        with torch.inference_mode():
            student(images, head=head, head_chunk=head_chunk, host=head_chunk is not None)
    except (RuntimeError, OSError, ImportError) as error:
        # Compilers fail in many ways; all of theirs are runtime errors. Copies share the weights
        # and forget that they were compiled.
        student.encoder = copy.copy(student.encoder)
        student.global_head = copy.copy(student.global_head)
        student.local_head = copy.copy(student.local_head)
        # The first line names the backend, the second what it ran into.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(lines[:2]) or type(error).__name__
    return None
