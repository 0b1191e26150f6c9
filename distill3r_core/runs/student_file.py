"""The student that a command is to use: the one that was named, or the newest run's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from distill3r_core import paths
from distill3r_core.errors import InputMissingError
from distill3r_core.io.checksums import file_hash
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import Student, load_student
from distill3r_core.models.checkpoint import find_student
from distill3r_core.models.precision import lower_precision

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class StudentFile:
    """A student with what its file says about it."""

    path: Path
    label: str
    student: Student  # in evaluation mode, on `device`
    device: torch.device
    fit: ImageFit  # how images become its input
    precision: Precision

    @cached_property
    def digest(self) -> str:
        """A hash of the weight file."""
        return file_hash(self.path)


def open_student(
    model: Path | None, device: torch.device, precision: Precision = "auto"
) -> StudentFile:
    """Load the student that a command is to use.

    Args:
        model: A run's folder, a checkpoint's folder or a weight file; None: the newest run.
        precision: "auto" is bfloat16 on a GPU that has it, else float32.

    Raises:
        InputMissingError: There is no such file, or no run.
        WeightsError: The file is not a student's.
    """
    path = find_student(model or require_newest_run())
    student = load_student(path, device=str(device))
    chosen = resolve_precision(precision, device)
    if chosen == "bfloat16":
        lower_precision(student)
    return StudentFile(path, label_of(path), student, device, fit_of(student), chosen)


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """What "auto" means on a device: bfloat16 on a GPU that has it, else float32."""
    if precision != "auto":
        return precision
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if able else "float32"


def require_newest_run(otherwise: Callable[[], str] = str) -> Path:
    """The newest run.

    Args:
        otherwise: Says what does without one.

    Raises:
        InputMissingError: There is none.
    """
    run = paths.newest_run()
    if run is None:
        raise InputMissingError(
            f"no model: there is no run in {paths.RUNS}/",
            hint=otherwise() + "make one with `distill3r train`, or in minutes and without data "
            "with `distill3r demo`; -m names a run or a weight file that lies elsewhere",
        )
    return run


def label_of(path: Path) -> str:
    """`small-001` for runs/small-001/checkpoints/best/model.safetensors, else the file's stem."""
    if path.name == "model.safetensors" and path.parent.parent.name == "checkpoints":
        return path.parent.parent.parent.resolve().name
    return path.resolve().parent.name if path.name == "model.safetensors" else path.stem


def fit_of(student: Student) -> ImageFit:
    """How images become a student's input: as its file says, else its size, squashed."""
    if student.metadata is None:
        raise ValueError("this student was built, not loaded: say how pictures fit it, with fit=")
    plain = student.metadata.fit
    return ImageFit.from_plain(plain) if plain else ImageFit(size=student.metadata.size)


def cache_paths(student: StudentFile) -> tuple[Path, ...]:
    """The caches that a student learned from; none where its file does not say."""
    metadata = student.student.metadata
    found = metadata.settings.get("cache") if metadata is not None else None
    if found is None:
        return ()
    return tuple(map(Path, [found] if isinstance(found, str) else found))
