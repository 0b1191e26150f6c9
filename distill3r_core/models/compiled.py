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
    """Compile the parts of a student that its class names, and run them once.

    Args:
        student: Changed in place; keeps its names and weights. For inference only.
        images: Input of the student, as many views and of the sizes that will come.
        head_chunk: Views that will go through a head at once: each number is compiled for.

    Returns:
        None where it worked, else why the student runs uncompiled.
    """
    for name in student.COMPILED:
        student.get_submodule(name).compile(backend=backend)
    try:
        with torch.inference_mode():
            student(images, head=head, head_chunk=head_chunk, host=head_chunk is not None)
    except (RuntimeError, OSError, ImportError) as error:
        # torch.compile fails in many ways, always with a RuntimeError. The copies share the
        # weights and are not compiled.
        for name in student.COMPILED:
            setattr(student, name, copy.copy(student.get_submodule(name)))
        # The first line names the backend, the second what it ran into.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return " ".join(lines[:2]) or type(error).__name__
    return None
