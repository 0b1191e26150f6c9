"""torch.export takes the plain forward pass of every preset."""

import pytest
import torch
from torch import Tensor, nn

from distill3r_core.models import PRESETS, build_student
from distill3r_core.models.families import family_of, preset_spec
from distill3r_core.models.student import Student

# Narrow and shallow parts of the same architecture: exporting is slow, and its time is theirs.
_NARROW = {
    "decoder": {"width": 64, "depth": 4, "heads": 4},
    "heads": {"features": 16, "layers": [16, 16, 16, 16], "tail": 16},
}


class Plain(nn.Module):
    """The maps as tensors, which an exported program returns."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.student(images)
        known = [one for one in (maps.global_map, maps.local_map) if one is not None]
        return tuple(part for one in known for part in (one.points, one.confidence))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(
    ("preset", "own"), [*((preset, {}) for preset in PRESETS), ("tiny", {"map_size": "predicted"})]
)
def test_an_exported_student_predicts_the_same_maps(preset, own, gradients):
    torch.manual_seed(0)
    spec = preset_spec(preset)
    step = family_of(spec).multiple(spec)
    narrow = _NARROW if spec.family == "pairs" else {}
    if narrow and spec.encoder.kind == "vit":
        narrow = {**narrow, "encoder": {"depth": 1}}
    shape = (1, 2, 3, 2 * step, 3 * step)
    student = Plain(build_student(preset, **narrow, **own).eval())
    images = torch.rand(shape)
    with torch.set_grad_enabled(gradients):
        exported = torch.export.export(student, (images,), strict=False).module()
        other = torch.rand(shape)
        found, wanted = exported(other), student(other)
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine - theirs).abs().max() <= 1e-5
