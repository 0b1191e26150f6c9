"""Warm starts of pair students: the recorded cut, and the laws of one common basis."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from saved_runs import write_run

from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.models import StudentMetadata, build_student, save_student
from distill3r_core.models.families import preset_spec
from distill3r_core.models.warm_starts.block_maps import blocks_of
from distill3r_core.models.warm_starts.block_projection import BlockShape, project_block
from distill3r_core.models.warm_starts.pair_starts import (
    fill_decoder,
    start_by_cut,
    start_by_projection,
)
from distill3r_core.models.warm_starts.pair_tensors import open_pair_tensors
from distill3r_core.models.warm_starts.stream_basis import helmert, projector, written
from distill3r_core.models.warm_starts.tensor_cut import cut, cut_apart
from distill3r_core.nn.pairs.pair_decoder import PairBlock
from distill3r_core.nn.rotary import grid_rotation

TEACHER = {
    "encoder": {"kind": "croco", "width": 32, "depth": 1, "heads": 2},
    "adapter": False,
    "decoder": {"width": 48, "depth": 4, "heads": 3, "mlp_ratio": 4.0},
    "heads": {"features": 8, "layers": [8, 8, 8, 8], "tail": 8},
}


@pytest.fixture(scope="module")
def recorded(request):
    folder = request.getfixturevalue("golden_dir")
    return json.loads((folder / "svd_init.json").read_text())


@pytest.fixture(scope="module")
def draw(request):
    """The folder's own `tensor_for`, in float64."""
    folder = request.getfixturevalue("golden_dir")
    space: dict = {}
    exec((folder / "golden_weights.py").read_text(), space)
    return lambda name, shape: torch.from_numpy(
        np.asarray(space["tensor_for"](name, shape, 0))
    ).double()


def error(found: torch.Tensor, wanted) -> float:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def test_block_maps_are_the_recorded_ones(recorded):
    for sizes, maps in recorded["layer_map"].items():
        teacher, student = map(int, sizes.split("->"))
        for kind in ("uniform", "ends", "first", "last"):
            assert list(blocks_of(teacher, student, kind)) == maps[kind], (sizes, kind)


def test_the_cut_of_a_matrix_is_the_recorded_one(recorded, draw):
    for case in recorded["slice_cases"]["cases"]:
        matrix = draw(case["name"], case["shape"])
        found = cut(matrix, case["target"])
        assert error(found, case["expected"]) < 1e-8, case["name"]
        rows, columns = case["target"]
        difference = (found - matrix[:rows, :columns]).norm()
        assert difference <= case["tail"] * (1 + 1e-6) + 1e-9


def test_queries_keys_and_values_are_cut_apart(recorded, draw):
    case = recorded["fused_qkv"]
    matrix = draw(case["tensor"], case["shape"])
    found = cut_apart(matrix, case["target"], rows=(24, 24, 24))
    for row, values in case["split"]["rows"].items():
        assert error(found[int(row)], values) < 1e-8
    bias = draw(case["tensor"].replace("weight", "bias"), [72])
    assert error(cut_apart(bias, [48], rows=(24, 24, 24)), case["bias_split"]) < 1e-8


def test_the_cut_at_a_matrix_own_shape_is_the_matrix():
    matrix = torch.randn(6, 9, dtype=torch.float64)
    assert cut(matrix, (6, 9)) is matrix
    low = torch.randn(8, 3, dtype=torch.float64) @ torch.randn(3, 9, dtype=torch.float64)
    # Its rank fits: a plain block.
    torch.testing.assert_close(cut(low, (4, 5)), low[:4, :5], rtol=0, atol=1e-12)
    kernel = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    assert cut(kernel, (4, 2, 3, 3)).shape == (4, 2, 3, 3)


def test_the_basis_has_its_laws(draw, recorded):
    names = recorded["subspace"]["teacher"]["tensors"]
    block = {name.split(".", 2)[-1]: draw(name, shape) for name, shape in names}
    writers = [block[f"{name}.weight"] for name in ("attn.proj", "cross_attn.proj", "mlp.fc2")]
    embed = draw("decoder_embed.weight", [24, 32])
    gram = written([*writers, embed])
    values = torch.linalg.eigvalsh(gram).flip(0)
    assert error(values, recorded["subspace"]["eigenvalues"]) < 1e-8
    basis = projector(gram, 16)
    assert error(basis @ basis.T, recorded["subspace"]["projector"]) < 1e-8
    ones = torch.eye(16, dtype=torch.float64) - 1 / 16
    torch.testing.assert_close(basis.T @ basis, ones, rtol=0, atol=1e-12)
    assert basis.sum(1).abs().max() < 1e-12
    # It loses the least of what is written: the sum of the dropped eigenvalues.
    centered = [w - w.mean(0, keepdim=True) for w in (*writers, embed)]
    lost = sum((w - basis @ basis.T @ w).square().sum() for w in centered)
    torch.testing.assert_close(lost, values[15:].sum(), rtol=0, atol=1e-12)


def recorded_block(recorded, draw) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    names = recorded["subspace"]["teacher"]["tensors"]
    block = {
        name.removeprefix("dec_blocks.0."): draw(name, shape)
        for name, shape in names
        if name.startswith("dec_blocks")
    }
    weight, bias = draw("decoder_embed.weight", [24, 32]), draw("decoder_embed.bias", [24])
    tokens = [draw(f"input/{name}", [6, 32]) @ weight.T + bias for name in ("f1", "f2")]
    return block, tokens[0], tokens[1]


def run_block(tensors, one, two, *, width, heads, hidden) -> torch.Tensor:
    block = PairBlock(width, heads, mlp_ratio=hidden / width).double()
    block.load_state_dict(dict(tensors))
    rotation = grid_rotation(2, 3, width // heads)
    with torch.no_grad():
        return block(one[None], two[None], rotation, rotation)[0]


def test_a_projected_block_gives_the_recorded_tokens(recorded, draw):
    facts = recorded["subspace"]
    block, one, two = recorded_block(recorded, draw)
    found = run_block(block, one, two, width=24, heads=3, hidden=96)
    assert error(found, facts["teacher_output"]) < 1e-6  # the rotation is in float32
    writers = [block[f"{name}.weight"] for name in ("attn.proj", "cross_attn.proj", "mlp.fc2")]
    basis = projector(written([*writers, draw("decoder_embed.weight", [24, 32])]), 16)
    reduced = project_block(block, basis, BlockShape(heads=2, head_width=8, hidden=16))
    assert list(reduced.self_heads) == facts["student"]["kept_self"]
    assert list(reduced.cross_heads) == facts["student"]["kept_cross"]
    assert list(reduced.units) == facts["student"]["kept_units"]
    assert error(reduced.tensors["mlp.fc1.bias"], facts["invariants"]["fc1_bias"]) < 1e-8
    for name, key in (("mlp.fc1", "fc1"), ("mlp.fc2", "fc2"), ("attn.qkv", "qkv")):
        weight = reduced.tensors[f"{name}.weight"]
        wanted = facts["invariants"][f"{key}_gram_trace"]
        assert float(weight.square().sum()) == pytest.approx(wanted, rel=1e-8)
    small = run_block(reduced.tensors, one @ basis, two @ basis, width=16, heads=2, hidden=16)
    assert error(small @ basis.T, facts["student_output_in_teacher_coordinates"]) < 1e-6
    bias = basis @ reduced.tensors["attn.proj.bias"]
    assert error(bias, facts["invariants"]["proj_bias_in_teacher_coordinates"]) < 1e-6
    centred = torch.tensor(facts["teacher_output_centred"], dtype=torch.float64)
    assert error(found - found.mean(-1, keepdim=True), centred) < 1e-6


def test_at_full_width_a_projected_block_is_the_block(recorded, draw):
    block, one, two = recorded_block(recorded, draw)
    gram = written([block["mlp.fc2.weight"], block["attn.proj.weight"]])
    basis = projector(gram, 24)
    whole = project_block(block, basis, BlockShape(heads=3, head_width=8, hidden=96))
    wanted = run_block(block, one, two, width=24, heads=3, hidden=96)
    # Any mean of a token is gone in the student, and changes nothing there.
    moved = [tokens + torch.randn(6, 1, dtype=torch.float64) for tokens in (one, two)]
    found = run_block(
        whole.tensors, moved[0] @ basis, moved[1] @ basis, width=24, heads=3, hidden=96
    )
    torch.testing.assert_close(found, wanted @ basis, rtol=0, atol=1e-12)


def test_a_stream_of_fewer_dimensions_is_kept_whole(recorded, draw):
    block, *tokens = recorded_block(recorded, draw)
    # All that is written lies in 15 dimensions without a mean, which 16 channels hold.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(24, 15, generator=generator, dtype=torch.float64)
    plane = torch.linalg.qr(drawn - drawn.mean(0)).Q
    writers = ("attn.proj", "cross_attn.proj", "mlp.fc2")
    for name in writers:
        for end in ("weight", "bias"):
            block[f"{name}.{end}"] = plane @ (plane.T @ block[f"{name}.{end}"])
    for name in ("attn.proj.weight", "cross_attn.proj.weight"):
        block[name][:, 16:] = 0  # the third head, for which 16 channels have no room, says nothing
    one, two = (one @ plane @ plane.T for one in tokens)
    wanted = run_block(block, one, two, width=24, heads=3, hidden=96)
    basis = projector(written([*(block[f"{name}.weight"] for name in writers), plane]), 16)
    found = project_block(block, basis, BlockShape(heads=2, head_width=8, hidden=96))
    assert found.self_heads == found.cross_heads == (0, 1)

    def run(tensors):
        return run_block(tensors, one @ basis, two @ basis, width=16, heads=2, hidden=96) @ basis.T

    assert error(run(found.tensors), wanted) < 1e-5  # up to the norms' epsilon
    # A token is as long in fewer channels, so that its variance is larger: the norms say so.
    without = {
        name: torch.ones_like(tensor) if name.startswith("norm") and "weight" in name else tensor
        for name, tensor in found.tensors.items()
    }
    assert error(run(without), wanted) > 1e-2


def test_the_order_of_heads_and_units_does_not_matter(recorded, draw):
    block, one, two = recorded_block(recorded, draw)
    heads, units = torch.tensor([2, 0, 1]), torch.randperm(96)
    channels = (8 * heads[:, None] + torch.arange(8)).flatten()
    qkv = torch.cat([channels + 24 * part for part in range(3)])
    moved = dict(block)
    for end in ("weight", "bias"):
        moved[f"attn.qkv.{end}"] = block[f"attn.qkv.{end}"][qkv]
        moved[f"mlp.fc1.{end}"] = block[f"mlp.fc1.{end}"][units]
        for layer in ("projq", "projk", "projv"):
            name = f"cross_attn.{layer}.{end}"
            moved[name] = block[name][channels]
    for name in ("attn.proj.weight", "cross_attn.proj.weight"):
        moved[name] = block[name][:, channels]
    moved["mlp.fc2.weight"] = block["mlp.fc2.weight"][:, units]
    basis = projector(written([block["mlp.fc2.weight"]]), 16)
    shape = BlockShape(heads=2, head_width=8, hidden=16)
    outputs = [
        run_block(
            project_block(one_of, basis, shape).tensors,
            one @ basis,
            two @ basis,
            width=16,
            heads=2,
            hidden=16,
        )
        for one_of in (block, moved)
    ]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-10)


def test_the_helmert_basis_is_orthonormal_and_sums_to_nothing():
    basis = helmert(7)
    unit = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, unit, rtol=0, atol=1e-12)
    assert basis.sum(0).abs().max() < 1e-12


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
