"""torch.export takes the plain forward pass of every preset."""

import pytest
import torch
from torch import Tensor, nn

from distill3r_core.models import PRESETS, build_student
from distill3r_core.models.student import Student


class Plain(nn.Module):
    """The maps as tensors, which an exported program returns."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        global_map, local_map = self.student(images).both
        return (
            global_map.points, global_map.confidence, local_map.points, local_map.confidence,
        )  # fmt: skip


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_an_exported_student_predicts_the_same_maps(preset, gradients):
    torch.manual_seed(0)
    student, images = Plain(build_student(preset).eval()), torch.rand(1, 2, 3, 28, 42)
    with torch.set_grad_enabled(gradients):
        exported = torch.export.export(student, (images,), strict=False).module()
        other = torch.rand(1, 2, 3, 28, 42)
        found, wanted = exported(other), student(other)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine - theirs).abs().max() <= 1e-5
