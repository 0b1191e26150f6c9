"""Warm starts of whole pair students from the file of a larger network."""

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from saved_runs import write_run

from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.models.families import preset_spec
from distill3r_core.models.warm_starts import pair_tensors
from distill3r_core.models.warm_starts.pair_starts import (
    fill_decoder,
    start_by_cut,
    start_by_projection,
)
from distill3r_core.models.warm_starts.pair_tensors import open_pair_tensors
from distill3r_core.models.warm_starts.stream_basis import projector, written
from distill3r_core.models.warm_starts.tensor_cut import cut

TEACHER = {
    "encoder": {"kind": "croco", "width": 32, "depth": 1, "heads": 2},
    "adapter": False,
    "decoder": {"width": 48, "depth": 4, "heads": 3, "mlp_ratio": 4.0},
    "heads": {"features": 8, "layers": [8, 8, 8, 8], "tail": 8},
}


def drawn_student(**overrides):
    """A pair student no norm of which is as it was built."""
    torch.manual_seed(0)
    student = build_student("pair-tiny", **overrides).eval()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return student


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory) -> tuple[object, Path]:
    teacher = drawn_student(**TEACHER)
    path = tmp_path_factory.mktemp("teacher") / "model.safetensors"
    metadata = StudentMetadata(
        preset="pair-tiny", spec=teacher.spec, size=(32, 48), licenses=("a license",)
    )
    save_student(path, teacher, metadata)
    return teacher, path


def test_a_student_of_its_teachers_sizes_is_the_teacher(teacher_file):
    teacher, path = teacher_file
    torch.manual_seed(5)
    student = build_student("pair-tiny", **TEACHER).eval()
    started = start_by_projection(student, path)
    assert started.licenses == ("a license",)
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], tensor), name
    again = build_student("pair-tiny", **TEACHER)
    start_by_cut(again, path)
    for name, tensor in teacher.decoder.state_dict().items():
        assert torch.equal(again.decoder.state_dict()[name], tensor), name


@pytest.mark.parametrize("damage", ["state.json", "model.safetensors"])
def test_a_teacher_in_a_damaged_run_starts_nothing(tmp_path, damage):
    teacher = drawn_student(**TEACHER)
    metadata = StudentMetadata("pair-tiny", teacher.spec, (32, 48))
    checkpoint = write_run(tmp_path / "run", teacher, metadata)
    start_by_cut(build_student("pair-tiny", **TEACHER), tmp_path / "run")
    if damage == "state.json":
        (checkpoint / damage).unlink()
    else:
        content = bytearray((checkpoint / damage).read_bytes())
        content[-100] ^= 1
        (checkpoint / damage).write_bytes(content)
    for path in (tmp_path / "run", checkpoint, checkpoint / "model.safetensors"):
        with pytest.raises(WeightsError, match=damage):
            start_by_cut(build_student("pair-tiny", **TEACHER), path)


def test_smaller_heads_on_an_equal_decoder_are_cut_from_the_teachers(teacher_file):
    teacher, path = teacher_file
    heads = {"features": 4, "layers": [4, 4, 4, 4], "tail": 4}
    student = build_student("pair-tiny", **{**TEACHER, "heads": heads})
    started = start_by_projection(student, path)
    for name, tensor in student.named_parameters():
        wanted = cut(teacher.state_dict()[name], tensor.shape).float()
        torch.testing.assert_close(tensor.data, wanted, msg=name)
    assert "all tensors of the decoder and the encoder; heads (" in started.summary


def test_descriptors_are_cut_apart_at_the_widths_of_both_inputs(tmp_path):
    teacher = drawn_student(**TEACHER, descriptors=True)
    path = tmp_path / "model.safetensors"
    save_student(path, teacher, StudentMetadata("pair-tiny", teacher.spec, (32, 48)))
    narrow = {
        **TEACHER,
        "encoder": {"kind": "croco", "width": 16, "depth": 1, "heads": 2},
        "decoder": {"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 1.0},
    }
    student = build_student("pair-tiny", **narrow, descriptors=True)
    started = start_by_cut(student, path)
    found = student.get_parameter("descriptor_heads.1.fc1.weight").data
    whole = teacher.get_parameter("descriptor_heads.1.fc1.weight").data
    early, late = cut(whole[:, :32], (len(found), 16)), cut(whole[:, 32:], (len(found), 32))
    torch.testing.assert_close(found, torch.cat([early, late], 1).float())
    assert started.summary.endswith("; descriptors")


@pytest.mark.parametrize("start", [start_by_cut, start_by_projection])
def test_descriptors_that_the_file_lacks_are_named(teacher_file, start):
    _, path = teacher_file
    student = build_student("pair-tiny", **TEACHER, descriptors=True)
    assert "descriptors random, as the file has none" in start(student, path).summary


def test_a_whole_decoder_in_another_basis_says_the_same(teacher_file):
    teacher, path = teacher_file
    tensors = open_pair_tensors(path)
    student = build_student("pair-tiny", **TEACHER).eval()
    basis = projector(written(tensors.writers()), 48)
    fill_decoder(student, tensors, basis, torch.eye(32, dtype=torch.float64), blocks=(0, 1, 2, 3))
    tokens = torch.randn(2, 1, 6, 32)
    with torch.no_grad():
        wanted = teacher.fuse(tokens[0], tokens[1], ((2, 3), (2, 3)))
        found = student.fuse(tokens[0], tokens[1], ((2, 3), (2, 3)))
    for side in (0, 1):  # behind the last norm, whose scale is now in its readers
        scale, shift = teacher.decoder.norm.weight, teacher.decoder.norm.bias
        mine = found[side][-1] @ basis.T.float() * scale + shift
        torch.testing.assert_close(mine, wanted[side][-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", [start_by_cut, start_by_projection])
def test_a_narrower_student_starts_from_every_part_of_decoder_and_heads(teacher_file, start):
    _, path = teacher_file
    narrow = {
        **TEACHER,
        "encoder": {"kind": "cnn"},
        "adapter": True,
        "decoder": {"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 1.0},
    }
    student = build_student("pair-tiny", **narrow)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    started = start(student, path)
    after = student.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith(("encoder.", "adapter.")) for name in changed)
    weights = {
        name
        for name in after
        if name.startswith(("decoder.", "first_head.", "second_head.")) and "weight" in name
    }
    norms = {name for name in weights if "norm" in name}
    assert weights - norms <= changed
    assert "model.safetensors" in started.summary
    with torch.no_grad():
        maps = student.eval()(torch.rand(1, 2, 3, 32, 48))
    assert maps.points_global.isfinite().all()


class CountedFile:
    """A safetensors file that notes what is asked of it and how much of it is in memory at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held = self.most = 0
        self._open = pair_tensors.safe_open

    def __call__(self, *arguments, **options) -> "CountedFile":
        self._file = self._open(*arguments, **options)
        return self

    def __enter__(self) -> "CountedFile":
        self._file.__enter__()
        return self

    def __exit__(self, *raised) -> None:
        self._file.__exit__(*raised)

    def get_tensor(self, name: str) -> torch.Tensor:
        tensor = self._file.get_tensor(name)
        self.asked.append(name)
        self._add(tensor.nbytes)
        weakref.finalize(tensor, self._add, -tensor.nbytes)
        return tensor

    def _add(self, count: int) -> None:
        self.held += count
        self.most = max(self.most, self.held)


@pytest.mark.parametrize(
    ("start", "kept", "writers"),
    [(start_by_cut, (0, 2), ()), (start_by_projection, (0, 3), (1, 2))],
)
def test_tensors_are_read_by_name_and_a_block_at_a_time(
    teacher_file, monkeypatch, start, kept, writers
):
    teacher, path = teacher_file
    narrow = {**TEACHER, "encoder": {"kind": "cnn"}, "adapter": True}
    narrow["decoder"] = {"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 1.0}
    student = build_student("pair-tiny", **narrow)
    counted = CountedFile()
    monkeypatch.setattr(pair_tensors, "safe_open", counted)
    start(student, path)
    sizes = {name: tensor.nbytes for name, tensor in teacher.state_dict().items()}
    blocks = {
        number: {name for name in sizes if name.startswith(_of_block(number))}
        for number in range(4)
    }
    wanted = set().union(*(blocks[number] for number in kept))
    ends = ("attn.proj.weight", "mlp.fc2.weight")
    wanted |= {name for number in writers for name in blocks[number] if name.endswith(ends)}
    wanted |= {name for name in sizes if name.startswith(("decoder.embed.", "decoder.norm."))}
    wanted |= {name for name in student.state_dict() if name.startswith(("first_head", "second_"))}
    assert set(counted.asked) == wanted  # neither the encoder nor the other blocks
    block = sum(sizes[name] for name in blocks[0]) // 2  # of one branch
    assert counted.most <= block + max(sizes[name] for name in wanted)


def _of_block(number: int) -> tuple[str, str]:
    return f"decoder.first.{number}.", f"decoder.second.{number}."


def test_heads_of_another_width_are_refused_with_the_number_that_fits(teacher_file):
    _, path = teacher_file
    other = {**TEACHER, "decoder": {"width": 32, "depth": 2, "heads": 1}}
    with pytest.raises(ConfigError, match="heads") as caught:
        start_by_projection(build_student("pair-tiny", **other), path)
    assert "model.decoder.heads=2" in (caught.value.hint or "")


def test_a_wider_student_and_foreign_files_are_refused(teacher_file, tmp_path):
    _, path = teacher_file
    wide = {**TEACHER, "decoder": {"width": 96, "depth": 2, "heads": 6}}
    with pytest.raises(WeightsError, match=r"decoder\.width"):
        start_by_cut(build_student("pair-tiny", **wide), path)
    adapted = {**TEACHER, "encoder": {"kind": "cnn"}, "adapter": True}
    with pytest.raises(WeightsError, match=r"a token before the decoder is 48 .* and 32 in the"):
        start_by_cut(build_student("pair-tiny", **adapted), path)
    save_file({"something": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="pair network"):
        open_pair_tensors(tmp_path / "other.safetensors")
    broken = {"decoder_embed.weight": torch.zeros(8, 8), "dec_blocks.0.norm1.weight": torch.ones(8)}
    save_file(broken, tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        open_pair_tensors(tmp_path / "cut.safetensors")
    bare = {f"dec_norm.{end}": torch.zeros(8) for end in ("weight", "bias")}
    bare |= {"decoder_embed.weight": torch.zeros(8, 8), "decoder_embed.bias": torch.zeros(8)}
    save_file(bare, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="its decoder has no block"):
        open_pair_tensors(tmp_path / "bare.safetensors")


def test_the_presets_are_untouched_by_a_warm_start():
    assert preset_spec("lunar-s2").decoder.heads == 4
