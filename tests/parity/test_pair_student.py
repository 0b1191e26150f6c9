"""A pair student with the sizes of the recorded teacher, started from its file, is the teacher."""

import json

import pytest
import torch
from drawn_networks import Recorded
from safetensors.torch import save_file

from distill3r_core.models import build_student
from distill3r_core.models.warm_starts.pair_starts import fill_decoder, start_by_projection
from distill3r_core.models.warm_starts.pair_tensors import open_pair_tensors
from distill3r_core.models.warm_starts.stream_basis import projector, written

CASES = ("pair", "odd")
BAR = 1e-5  # largest difference over largest value


@pytest.fixture(scope="module")
def started(golden_dir, tmp_path_factory):
    """The recording, the teacher's file, and a student of its sizes that started from it."""
    recorded = Recorded(golden_dir, "dust3r_tiny")
    sizes, state = recorded.facts["constructor"], recorded.state()
    folder = tmp_path_factory.mktemp("teacher")
    kept = {name: tensor for name, tensor in state.items() if name not in recorded.facts["aliases"]}
    save_file(
        {name: tensor.contiguous() for name, tensor in kept.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(sizes))
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
            "features": 256,
            "layers": [96, 192, 384, 768],
            "tail": 128,
            "spare_parameters": True,
            "initial_depth": None,
        },
    ).eval()
    start_by_projection(student, folder)
    return recorded, folder, student


@torch.inference_mode()
@pytest.mark.parametrize("case", CASES)
def test_the_student_is_the_teacher(started, case):
    recorded, _, student = started
    inputs = recorded.facts["inputs"][case]
    images = [(recorded.image(inputs[name]["formula"]) + 1) / 2 for name in ("img1", "img2")]
    first, second = student([image[0] for image in images])
    assert recorded.error(f"{case}/view1/pts3d", first.points_global[0:1]) < BAR
    assert recorded.error(f"{case}/view1/conf", first.confidence_global[0:1]) < BAR
    found = second.points_global[0:1]
    assert recorded.error(f"{case}/view2/pts3d_in_other_view", found) < BAR


@torch.inference_mode()
def test_its_decoder_in_another_basis_is_the_teachers(started):
    recorded, folder, student = started
    tensors = open_pair_tensors(folder)
    basis = projector(written(tensors.writers()), tensors.decoder_width)
    inputs = recorded.facts["inputs"]["pair"]
    images = [(recorded.image(inputs[name]["formula"]) + 1) / 2 for name in ("img1", "img2")]
    tokens = [student.encode(image) for image in images]
    scale, shift = (tensors.read(f"decoder.norm.{end}") for end in ("weight", "bias"))
    identity = torch.eye(tensors.encoder_width, dtype=torch.float64)
    fill_decoder(student, tensors, basis, identity, blocks=tuple(range(tensors.depth)))
    grid = (images[0].shape[-2] // 16, images[0].shape[-1] // 16)
    last = student.fuse(tokens[0], tokens[1], (grid, grid))[0][-1]
    found = last @ basis.T.float() * scale + shift
    assert recorded.error("pair/dec1", found) < BAR
