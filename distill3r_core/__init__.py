"""distill3r: turn a giant 3D foundation model into a small, fast one.

The public names are loaded when they are first used, so that importing the package is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill3r_core.cache import TeacherCache
    from distill3r_core.losses import DistillationLoss
    from distill3r_core.models import build_student, load_student
    from distill3r_core.reconstruction.export import save_reconstruction
    from distill3r_core.reconstruction.prediction.load_model import load_model
    from distill3r_core.reconstruction.reconstruct import reconstruct
    from distill3r_core.reconstruction.reconstruction import Reconstruction
    from distill3r_core.teachers import build_teacher
    from distill3r_core.types import PointMaps, TeacherTargets

_HOMES = {
    "DistillationLoss": "distill3r_core.losses",
    "PointMaps": "distill3r_core.types",
    "Reconstruction": "distill3r_core.reconstruction.reconstruction",
    "TeacherCache": "distill3r_core.cache",
    "TeacherTargets": "distill3r_core.types",
    "build_student": "distill3r_core.models",
    "build_teacher": "distill3r_core.teachers",
    "load_model": "distill3r_core.reconstruction.prediction.load_model",
    "load_student": "distill3r_core.models",
    "reconstruct": "distill3r_core.reconstruction.reconstruct",
    "save_reconstruction": "distill3r_core.reconstruction.export",
}

__all__ = [
    "DistillationLoss",
    "PointMaps",
    "Reconstruction",
    "TeacherCache",
    "TeacherTargets",
    "build_student",
    "build_teacher",
    "load_model",
    "load_student",
    "reconstruct",
    "save_reconstruction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
