"""Teachers, and the one export step that turns their maps into targets."""

from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.depth import DepthTeacher
from distill3r_core.teachers.export import Exported, RejectedPixels, export, export_counted
from distill3r_core.teachers.registry import (
    TEACHERS,
    TeacherNeeds,
    TeacherRecord,
    build_teacher,
    choose_teacher,
    teacher_names,
)
from distill3r_core.teachers.synthetic import SyntheticTeacher

__all__ = [
    "TEACHERS",
    "DepthTeacher",
    "Exported",
    "RejectedPixels",
    "SyntheticTeacher",
    "Teacher",
    "TeacherNeeds",
    "TeacherRecord",
    "build_teacher",
    "choose_teacher",
    "export",
    "export_counted",
    "teacher_names",
]
