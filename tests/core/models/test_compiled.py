"""Compiling is an offer: where it cannot be done, the student runs as before and says why."""

import subprocess
import sys

import torch

from distill3r_core.models import build_student
from distill3r_core.models.compiled import compile_parts

# In a process of its own: the checks of shapes that tests install cannot be traced. The compiler
# proper takes minutes; what is traced and how it is put in place is the same without it.
COMPILE = """
import torch
from distill3r_core.models import build_student
from distill3r_core.models.compiled import compile_parts

torch.manual_seed(0)
student = build_student("tiny", encoder={"depth": 1}, fusion={"depth": 1}).eval()
images = torch.rand(1, 2, 3, 28, 42)
with torch.inference_mode():
    wanted = student(images).points_global
    assert compile_parts(student, images, backend="aot_eager") is None
    assert student.encoder._compiled_call_impl is not None
    torch.testing.assert_close(student(images).points_global, wanted, rtol=1e-5, atol=1e-5)
"""


def test_a_compiler_that_fails_is_a_reason_and_changes_nothing(monkeypatch):
    student, images = build_student("tiny").eval(), torch.rand(1, 2, 3, 28, 42)
    names = list(student.state_dict())
    with torch.inference_mode():
        wanted = student(images).points_global

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: no compiler")

        monkeypatch.setattr(type(student.encoder), "_call_impl", broken)
        reason = compile_parts(student, images)
        monkeypatch.undo()
        assert reason == "backend='inductor' raised: InvalidCxxCompiler: no compiler"
        assert torch.equal(student(images).points_global, wanted)
    assert list(student.state_dict()) == names


def test_compiled_parts_say_the_same():
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
