"""Students: their families and presets, and their weights on disk.

The names below are loaded when they are first used: presets are read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill3r_core.models.build import build_student
    from distill3r_core.models.checkpoint import load_student, save_student
    from distill3r_core.models.families import FAMILIES
    from distill3r_core.models.metadata import StudentMetadata
    from distill3r_core.models.presets import PRESETS
    from distill3r_core.models.spec import StudentSpec
    from distill3r_core.models.student import Student

_HOMES = {
    "FAMILIES": "families",
    "PRESETS": "presets",
    "Student": "student",
    "StudentMetadata": "metadata",
    "StudentSpec": "spec",
    "build_student": "build",
    "load_student": "checkpoint",
    "save_student": "checkpoint",
}

__all__ = [
    "FAMILIES",
    "PRESETS",
    "Student",
    "StudentMetadata",
    "StudentSpec",
    "build_student",
    "load_student",
    "save_student",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
