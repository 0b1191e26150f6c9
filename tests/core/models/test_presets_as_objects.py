from dataclasses import replace

from distill3r_core import build_student
from distill3r_core.models.presets import PRESETS


def test_a_student_is_built_from_a_preset_that_has_no_name():
    spec = {**PRESETS["tiny"].spec, "fusion": {"width": 96, "depth": 1, "heads": 3}}
    student = build_student(replace(PRESETS["tiny"], spec=spec))
    assert student.spec.as_plain()["fusion"]["depth"] == 1
    assert build_student(PRESETS["tiny"]).spec == build_student("tiny").spec
