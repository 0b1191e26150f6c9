"""A pair student with the sizes of the recorded teacher, started from its file, is the teacher."""

import json

import pytest
import torch
from drawn_networks import Recorded
from recorded import recorded_cases
from safetensors.torch import save_file

from distill3r_core.models import build_student
from distill3r_core.models.warm_starts.measured_streams import open_network
from distill3r_core.models.warm_starts.pair_starts import fill_decoder, start_by_projection
from distill3r_core.models.warm_starts.pair_tensors import open_pair_tensors
from distill3r_core.models.warm_starts.stream_basis import projector, written

STEM = "dust3r_tiny"
BAR = 6e-7  # largest difference over largest value of the decoder, in float64
EPSILON = 2**-23  # of float32, in which the outputs are stored


def rounding(recorded: Recorded, name: str) -> float:
    """How far the recorded float32 output itself is from a float64 run, over its largest value."""
    facts = recorded.facts["outputs"][name]
    return facts["float64_max_abs_diff"] / facts["max_abs"]


@pytest.fixture(scope="module")
def started(golden_dir, tmp_path_factory):
    """The recording, the teacher's file, and a student of its sizes that started from it."""
    recorded = Recorded(golden_dir, STEM)
    sizes, state = recorded.facts["constructor"], recorded.state()
    folder = tmp_path_factory.mktemp("teacher")
    kept = {name: tensor for name, tensor in state.items() if name not in recorded.facts["aliases"]}
    save_file(
        {name: tensor.contiguous() for name, tensor in kept.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(sizes))
    head = "downstream_head1.dpt"
    widths = [state[f"{head}.scratch.layer{level}_rn.weight"].shape for level in (1, 2, 3, 4)]
    student = build_student(
        "pair-tiny",
        encoder={
            "kind": "croco",
            "width": sizes["enc_embed_dim"],
            "depth": sizes["enc_depth"],
            "heads": sizes["enc_num_heads"],
        },
        adapter=False,
        decoder={
            "width": sizes["dec_embed_dim"],
            "depth": sizes["dec_depth"],
            "heads": sizes["dec_num_heads"],
            "mlp_ratio": 4.0,
        },
        heads={
            "features": widths[0][0],
            "layers": [shape[1] for shape in widths],
            "tail": state[f"{head}.head.2.weight"].shape[0],
            "spare_parameters": True,
            "initial_depth": None,
        },
    ).eval()
    start_by_projection(student.double(), folder)
    return recorded, folder, student


@torch.inference_mode()
@pytest.mark.parametrize("case", recorded_cases(STEM, "inputs"))
@pytest.mark.parametrize("stem", [STEM])
def test_the_student_is_the_teacher(started, stem, case):
    recorded, _, student = started
    inputs = recorded.facts["inputs"][case]
    images = [
        (recorded.image(inputs[name]["formula"]).double() + 1) / 2 for name in ("img1", "img2")
    ]
    pairs = [student(list(pair)) for pair in zip(*images, strict=True)]  # one of them at a time
    first, second = zip(*pairs, strict=True)
    points, confidence, moved = (
        torch.cat([getattr(maps, name) for maps in views])
        for views, name in (
            (first, "points_global"),
            (first, "confidence_global"),
            (second, "points_global"),
        )
    )
    for output, found in (
        ("view1/pts3d", points),
        ("view1/conf", confidence),
        ("view2/pts3d_in_other_view", moved),
    ):
        name = f"{case}/{output}"
        assert recorded.error(name, found) <= rounding(recorded, name) + EPSILON, name


@torch.inference_mode()
@pytest.mark.parametrize("stem", [STEM])
def test_the_network_that_is_measured_is_the_files(started, stem):
    _, folder, student = started
    network = open_network(open_pair_tensors(folder), torch.device("cpu"))
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    tokens = network.encode(images)
    torch.testing.assert_close(tokens.double(), student.encode(images.double()), rtol=0, atol=1e-5)
    last = list(network.streams(tokens[:1], tokens[1:], (2, 3)))[-2:]
    wanted = student.fuse(tokens[:1].double(), tokens[1:].double(), ((2, 3), (2, 3)))
    for side in (0, 1):
        found = student.decoder.norm(last[side].double())
        torch.testing.assert_close(found, wanted[side][-1], rtol=0, atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("stem", [STEM])
def test_its_decoder_in_another_basis_is_the_teachers(started, stem):
    recorded, folder, student = started
    tensors = open_pair_tensors(folder)
    basis = projector(written(tensors.writers()), tensors.decoder_width)
    case = next(iter(recorded.facts["inputs"]))
    inputs = recorded.facts["inputs"][case]
    images = [
        (recorded.image(inputs[name]["formula"]).double() + 1) / 2 for name in ("img1", "img2")
    ]
    tokens = [student.encode(image) for image in images]
    scale, shift = (tensors.read(f"decoder.norm.{end}") for end in ("weight", "bias"))
    identity = torch.eye(tensors.encoder_width, dtype=torch.float64)
    fill_decoder(student, tensors, basis, identity, blocks=tuple(range(tensors.depth)))
    one, two = ((image.shape[-2] // 16, image.shape[-1] // 16) for image in images)
    last = student.fuse(tokens[0], tokens[1], (one, two))[0][-1]
    found = last @ basis.T * scale + shift
    assert recorded.error(f"{case}/dec1", found) < BAR
