"""Who is asked: teachers, and the one export step that turns their maps into targets."""

from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.build import build_teacher, check_teacher, teacher_names
from distill3r_core.teachers.choice import choose_teacher
from distill3r_core.teachers.depth import DepthTeacher
from distill3r_core.teachers.export import Exported, Left, export, export_counted
from distill3r_core.teachers.synthetic import SyntheticTeacher
from distill3r_core.teachers.weights import require_weights

__all__ = [
    "DepthTeacher",
    "Exported",
    "Left",
    "SyntheticTeacher",
    "Teacher",
    "build_teacher",
    "check_teacher",
    "choose_teacher",
    "export",
    "export_counted",
    "require_weights",
    "teacher_names",
]
