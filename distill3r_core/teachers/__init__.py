"""Teachers, and the one export step that turns their maps into targets."""

from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.depth import DepthTeacher
from distill3r_core.teachers.registry import (
    TEACHERS,
    TeacherNeeds,
    TeacherRecord,
    build_teacher,
    choose_teacher,
    teacher_names,
)
from distill3r_core.teachers.synthetic import SyntheticTeacher
from distill3r_core.teachers.targets import CountedTargets, RejectedPixels, make_targets

__all__ = [
    "TEACHERS",
    "CountedTargets",
    "DepthTeacher",
    "RejectedPixels",
    "SyntheticTeacher",
    "Teacher",
    "TeacherNeeds",
    "TeacherRecord",
    "build_teacher",
    "choose_teacher",
    "make_targets",
    "teacher_names",
]
