"""One block of a pair decoder: the recorded cut, and the laws of a common basis."""

import pytest
import torch
from torch.func import functional_call

from distill3r_core.models.warm_starts.block_maps import blocks_of
from distill3r_core.models.warm_starts.block_projection import (
    BlockShape,
    head_scores,
    project_block,
    unit_scores,
)
from distill3r_core.models.warm_starts.stream_basis import (
    helmert,
    projector,
    random_columns,
    written,
)
from distill3r_core.models.warm_starts.tensor_cut import cut, cut_apart
from distill3r_core.nn.dpt import hooked_layers
from distill3r_core.nn.pairs.pair_decoder import PairBlock
from distill3r_core.nn.rotary import grid_rotation


def error(found: torch.Tensor, wanted) -> float:
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def test_block_maps_are_the_recorded_ones(recorded_starts):
    for sizes, maps in recorded_starts["layer_map"].items():
        teacher, student = map(int, sizes.split("->"))
        for kind in ("uniform", "ends", "first", "last"):
            assert list(blocks_of(teacher, student, kind)) == maps[kind], (sizes, kind)
        assert list(hooked_layers(student)) == maps["taps_1based"], sizes


def test_the_cut_of_a_matrix_is_the_recorded_one(recorded_starts, draw_golden):
    for case in recorded_starts["slice_cases"]["cases"]:
        matrix = draw_golden(case["name"], case["shape"])
        found = cut(matrix, case["target"])
        assert error(found, case["expected"]) < 1e-8, case["name"]
        rows, columns = case["target"]
        difference = (found - matrix[:rows, :columns]).norm()
        assert difference <= case["tail"] * (1 + 1e-6) + 1e-9


def test_queries_keys_and_values_are_cut_apart(recorded_starts, draw_golden):
    case = recorded_starts["fused_qkv"]
    matrix = draw_golden(case["tensor"], case["shape"])
    found = cut_apart(matrix, case["target"], rows=(24, 24, 24))
    for row, values in case["split"]["rows"].items():
        assert error(found[int(row)], values) < 1e-8
    # As one matrix, as released, each row of the student is one of the teacher's whole cut.
    whole = cut(matrix, case["target"])
    for row, values in case["whole"]["rows"].items():
        assert error(whole[int(row)], values) < 1e-8
    bias = draw_golden(case["tensor"].replace("weight", "bias"), [72])
    assert error(cut_apart(bias, [48], rows=(24, 24, 24)), case["bias_split"]) < 1e-8


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7,), (6, 9), (9, 6), (6, 4, 3, 3)])
def test_a_cut_at_a_tensors_own_shape_is_the_tensor_bit_for_bit(shape, kind):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=kind)
    before = tensor.clone()
    found = cut(tensor, shape)
    assert found.dtype == kind
    assert torch.equal(found, before)
    assert torch.equal(tensor, before)
    # A decomposition changes the last bits, and a cut loses what it does not keep.
    smaller = tuple(side - 2 for side in shape[:2]) + shape[2:]
    back = torch.zeros_like(tensor)
    back[tuple(slice(side) for side in smaller)] = cut(tensor, smaller).to(kind)
    assert (back - tensor).norm() > 0.1 * tensor.norm()
    if len(shape) > 1:
        left, values, right = torch.linalg.svd(tensor.flatten(1), full_matrices=False)
        assert not torch.equal((left * values @ right).reshape(shape), tensor)


def test_a_matrix_whose_rank_fits_is_cut_to_a_plain_block():
    low = torch.randn(8, 3, dtype=torch.float64) @ torch.randn(3, 9, dtype=torch.float64)
    torch.testing.assert_close(cut(low, (4, 5)), low[:4, :5], rtol=0, atol=1e-12)
    kernel = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    assert cut(kernel, (4, 2, 3, 3)).shape == (4, 2, 3, 3)


def test_the_basis_has_its_laws(draw_golden, recorded_starts):
    names = recorded_starts["subspace"]["teacher"]["tensors"]
    block = {name.split(".", 2)[-1]: draw_golden(name, shape) for name, shape in names}
    writers = [block[f"{name}.weight"] for name in ("attn.proj", "cross_attn.proj", "mlp.fc2")]
    embed = draw_golden("decoder_embed.weight", [24, 32])
    gram = written([*writers, embed])
    values = torch.linalg.eigvalsh(gram).flip(0)
    assert error(values, recorded_starts["subspace"]["eigenvalues"]) < 1e-8
    basis = projector(gram, 16)
    assert error(basis @ basis.T, recorded_starts["subspace"]["projector"]) < 1e-8
    assert float(values[14] - values[15]) == pytest.approx(
        recorded_starts["subspace"]["gap"], rel=1e-7
    )
    ones = torch.eye(16, dtype=torch.float64) - 1 / 16
    torch.testing.assert_close(basis.T @ basis, ones, rtol=0, atol=1e-12)
    assert basis.sum(1).abs().max() < 1e-12
    # It loses the least of what is written: the sum of the dropped eigenvalues.
    centered = [w - w.mean(0, keepdim=True) for w in (*writers, embed)]
    lost = sum((w - basis @ basis.T @ w).square().sum() for w in centered)
    torch.testing.assert_close(lost, values[15:].sum(), rtol=0, atol=1e-12)


def recorded_block(
    recorded_starts, draw_golden
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    names = recorded_starts["subspace"]["teacher"]["tensors"]
    block = {
        name.removeprefix("dec_blocks.0."): draw_golden(name, shape)
        for name, shape in names
        if name.startswith("dec_blocks")
    }
    weight, bias = (
        draw_golden("decoder_embed.weight", [24, 32]),
        draw_golden("decoder_embed.bias", [24]),
    )
    tokens = [draw_golden(f"input/{name}", [6, 32]) @ weight.T + bias for name in ("f1", "f2")]
    return block, tokens[0], tokens[1]


def run_block(tensors, one, two, *, width, heads, hidden) -> torch.Tensor:
    block = PairBlock(width, heads, mlp_ratio=hidden / width).double()
    block.load_state_dict(dict(tensors))
    rotation = grid_rotation(2, 3, width // heads)
    with torch.no_grad():
        return block(one[None], two[None], rotation, rotation)[0]


def run_narrow(tensors, one, two, *, heads, head_width) -> torch.Tensor:
    """A block whose heads together have other channels than its tokens."""
    block = PairBlock(heads * head_width, heads).double()
    for norm in (block.norm1, block.norm2, block.norm3, block.norm_y):
        norm.normalized_shape = (one.shape[-1],)
    rotation = grid_rotation(2, 3, head_width)
    with torch.no_grad():
        return functional_call(block, dict(tensors), (one[None], two[None], rotation, rotation))[0]


def in_other_channels(basis: torch.Tensor, seed: int) -> torch.Tensor:
    """P = E F^T with a random orthonormal F instead of Helmert's."""
    own = helmert(basis.shape[1])
    turned = own @ random_columns(own.shape[1], own.shape[1], seed=seed)
    return basis @ own @ turned.T


def test_a_projected_block_gives_the_recorded_tokens(recorded_starts, draw_golden):
    facts = recorded_starts["subspace"]
    block, one, two = recorded_block(recorded_starts, draw_golden)
    found = run_block(block, one, two, width=24, heads=3, hidden=96)
    assert error(found, facts["teacher_output"]) < 1e-6  # the rotation is in float32
    writers = [block[f"{name}.weight"] for name in ("attn.proj", "cross_attn.proj", "mlp.fc2")]
    basis = projector(written([*writers, draw_golden("decoder_embed.weight", [24, 32])]), 16)
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
    lost = error(small @ basis.T, centred)
    assert lost == pytest.approx(facts["errors"]["reduced"], abs=5e-4)


def test_heads_and_units_have_the_recorded_scores(recorded_starts, draw_golden):
    facts = recorded_starts["subspace"]
    block, *_ = recorded_block(recorded_starts, draw_golden)
    values = block["attn.qkv.weight"].chunk(3)[2]
    for kind, layer, read, norm in (
        ("self", "attn", values, "norm1"),
        ("cross", "cross_attn", block["cross_attn.projv.weight"], "norm_y"),
    ):
        found = head_scores(block[f"{layer}.proj.weight"], read, block[f"{norm}.weight"], width=8)
        assert error(found, facts["head_scores"][kind]) < 1e-8, kind
    inner = block["mlp.fc1.weight"] * block["norm3.weight"]
    assert error(unit_scores(inner, block["mlp.fc2.weight"]), facts["unit_scores"]) < 1e-8


def test_a_block_with_all_heads_and_units_gives_the_recorded_tokens(recorded_starts, draw_golden):
    facts = recorded_starts["subspace"]
    block, one, two = recorded_block(recorded_starts, draw_golden)
    writers = [block[f"{name}.weight"] for name in ("attn.proj", "cross_attn.proj", "mlp.fc2")]
    basis = projector(written([*writers, draw_golden("decoder_embed.weight", [24, 32])]), 16)
    tensors = project_block(block, basis, BlockShape(heads=3, head_width=8, hidden=96)).tensors
    found = run_narrow(tensors, one @ basis, two @ basis, heads=3, head_width=8) @ basis.T
    assert error(found, facts["student_output_all_heads_and_units"]) < 1e-6
    lost = error(found, facts["teacher_output_centred"])
    assert lost == pytest.approx(facts["errors"]["kept_all"], abs=5e-4)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_at_full_width_a_projected_block_is_the_block(recorded_starts, draw_golden, seed):
    block, one, two = recorded_block(recorded_starts, draw_golden)
    gram = written([block["mlp.fc2.weight"], block["attn.proj.weight"]])
    basis = projector(gram, 24)
    if seed is not None:
        basis = in_other_channels(basis, seed)
    whole = project_block(block, basis, BlockShape(heads=3, head_width=8, hidden=96))
    wanted = run_block(block, one, two, width=24, heads=3, hidden=96)
    # Any mean of a token is gone in the student, and changes nothing there.
    moved = [tokens + torch.randn(6, 1, dtype=torch.float64) for tokens in (one, two)]
    found = run_block(
        whole.tensors, moved[0] @ basis, moved[1] @ basis, width=24, heads=3, hidden=96
    )
    torch.testing.assert_close(found, wanted @ basis, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("width", "heads", "hidden"), [(8, 1, 16), (16, 2, 16), (16, 3, 96)])
def test_a_narrow_block_says_the_same_whatever_its_channels(
    recorded_starts, draw_golden, width, heads, hidden, seed
):
    block, one, two = recorded_block(recorded_starts, draw_golden)
    own = projector(written([block["mlp.fc2.weight"], block["attn.proj.weight"]]), width)
    other = in_other_channels(own, seed)
    ones = torch.eye(width, dtype=torch.float64) - 1 / width
    torch.testing.assert_close(other.T @ other, ones, rtol=0, atol=1e-12)
    torch.testing.assert_close(other @ other.T, own @ own.T, rtol=0, atol=1e-12)
    assert other.sum(1).abs().max() < 1e-12
    assert (other - own).abs().max() > 0.1
    shape = BlockShape(heads=heads, head_width=8, hidden=hidden)
    found = [
        run_narrow(
            project_block(block, basis, shape).tensors,
            one @ basis,
            two @ basis,
            heads=heads,
            head_width=8,
        )
        @ basis.T
        for basis in (own, other)
    ]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-12)


def test_a_stream_of_fewer_dimensions_is_kept_whole(recorded_starts, draw_golden):
    block, *tokens = recorded_block(recorded_starts, draw_golden)
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
    assert error(run(without) - one, wanted - one) > 0.2  # of what the block adds


def test_the_order_of_heads_and_units_does_not_matter(recorded_starts, draw_golden):
    block, one, two = recorded_block(recorded_starts, draw_golden)
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


@pytest.mark.parametrize("width", [2, 7, 24])
def test_the_helmert_basis_is_orthonormal_and_sums_to_nothing(width):
    basis = helmert(width)
    unit = torch.eye(width - 1, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, unit, rtol=0, atol=1e-12)
    assert basis.sum(0).abs().max() < 1e-12
