"""`subspace` measured on images: the directions that tokens are in, and a map of the encoders."""

from pathlib import Path

import pytest
import torch

from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.models.warm_starts.measured_streams import measure_streams, ridge
from distill3r_core.models.warm_starts.pair_starts import start_by_projection
from distill3r_core.models.warm_starts.pair_tensors import open_pair_tensors
from distill3r_core.models.warm_starts.warm_start import ImagePairs

HEADS = {"features": 8, "layers": [8, 8, 8, 8], "tail": 8}
TEACHER = {
    "encoder": {"kind": "croco", "width": 32, "depth": 1, "heads": 2},
    "adapter": False,
    "decoder": {"width": 48, "depth": 4, "heads": 3, "mlp_ratio": 4.0},
    "heads": HEADS,
}
# All units of the MLPs, two of three heads, 31 directions of the stream.
STUDENT = {**TEACHER, "decoder": {"width": 32, "depth": 4, "heads": 2, "mlp_ratio": 6.0}}
DIMENSIONS, DEAD = 31, 3


@pytest.fixture(scope="module")
def images() -> ImagePairs:
    drawn = torch.randint(
        256, (12, 2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImagePairs(drawn, torch.device("cpu"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[PairStudent, Path]:
    """A teacher whose stream has 31 dimensions on every image, and its file.

    One channel of its encoder is always zero; what its embedding would make of that channel lies
    outside of them, and is larger than all the rest.
    """
    torch.manual_seed(0)
    teacher = build_student("pair-tiny", **TEACHER).eval()
    assert isinstance(teacher, PairStudent)
    drawn = torch.randn(48, DIMENSIONS + 1)
    basis = torch.linalg.qr(drawn - drawn.mean(0)).Q
    plane, outside = basis[:, :DIMENSIONS], basis[:, DIMENSIONS]
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "norm3.weight")):
                parameter.add_(0.3 * torch.randn_like(parameter))
        teacher.encoder.norm.weight[DEAD] = teacher.encoder.norm.bias[DEAD] = 0
        embed = teacher.decoder.embed
        for layer in (
            embed,
            *(
                part
                for block in (*teacher.decoder.first, *teacher.decoder.second)
                for part in (block.attn.proj, block.cross_attn.proj, block.mlp.fc2)
            ),
        ):
            layer.weight.copy_(plane @ (plane.T @ layer.weight))
            layer.bias.copy_(plane @ (plane.T @ layer.bias))
        for block in (*teacher.decoder.first, *teacher.decoder.second):
            block.attn.proj.weight[:, 32:] = 0  # the third head, for which there is no room
            block.cross_attn.proj.weight[:, 32:] = 0
        embed.weight[:, DEAD] = 100 * outside
    path = tmp_path_factory.mktemp("teacher") / "model.safetensors"
    save_student(path, teacher, StudentMetadata("pair-tiny", teacher.spec, (32, 48)))
    return teacher, path


def started(teacher: PairStudent, path: Path, pairs: ImagePairs | None) -> PairStudent:
    """A student whose encoder says the same as the teacher's, in other channels."""
    student = build_student("pair-tiny", **STUDENT).eval()
    assert isinstance(student, PairStudent)
    student.encoder.load_state_dict(teacher.encoder.state_dict())
    order = torch.arange(31, -1, -1)
    student.encoder.register_forward_hook(lambda module, inputs, output: 2 * output[..., order])
    summary = start_by_projection(student, path, pairs).summary
    measured = "basis measured on 24 images"
    assert (measured if pairs is not None else "basis of the weights") in summary
    return student


@torch.no_grad()
def test_where_tokens_have_few_dimensions_the_measured_student_is_the_teacher(planted, images):
    teacher, path = planted
    shown = torch.rand(1, 2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    wanted = teacher(shown).points_global
    errors = [
        float((started(teacher, path, pairs)(shown).points_global - wanted).norm() / wanted.norm())
        for pairs in (images, None)
    ]
    assert errors[0] < 1e-4  # the ridge's share
    assert errors[1] > 0.1


def test_every_layer_has_the_same_say_and_the_student_is_left_as_it_was(planted, images):
    _, path = planted
    student = build_student("pair-tiny", **{**STUDENT, "encoder": {"kind": "cnn"}}).train()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    tensors = open_pair_tensors(path)
    found = measure_streams(tensors, student, images)
    assert float(found.gram.trace()) == pytest.approx(2 * (1 + tensors.depth))
    assert found.inputs.shape == (32, student.spec.token_width)
    assert student.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_a_linear_map_is_found_and_silent_channels_have_no_part_in_it():
    wanted, mine = torch.randn(5, 6).double(), torch.randn(40, 6).double()
    mine[:, 2] = wanted[:, 2] = 0
    theirs = mine @ wanted.T
    found = ridge(mine.T @ mine, theirs.T @ mine)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert found[:, 2].abs().max() == 0
