"""The student: encoder, fusion, heads, and where its weights live."""

from distill3r_core.models.build import build_student
from distill3r_core.models.spec import SPECS, StudentSpec
from distill3r_core.models.student import Student

__all__ = ["SPECS", "Student", "StudentSpec", "build_student"]
