"""The student: encoder, fusion, heads, and where its weights live."""

from distill3r_core.models.build import build_student
from distill3r_core.models.checkpoint import load_student, save_student
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.models.spec import SPECS, StudentSpec
from distill3r_core.models.student import Student

__all__ = [
    "SPECS",
    "Student",
    "StudentMetadata",
    "StudentSpec",
    "build_student",
    "load_student",
    "save_student",
]
