"""Students have the numbers of parameters recorded of the published ones, part by part."""

import pytest
import torch

from distill3r_core.models.build import build_from_spec
from distill3r_core.models.families import preset_spec

WHOLE = {"edges": "drop"}  # patches that do not fit whole into the image are left out, as released


@pytest.fixture(scope="module")
def recorded(recorded_starts):
    return recorded_starts["parameters"]


@pytest.mark.parametrize("name", ["S1", "S2", "S3", "S4"])
def test_students_have_the_recorded_numbers_of_parameters(recorded, name):
    with torch.device("meta"):
        student = build_from_spec(preset_spec(f"lunar-{name.lower()}", {"descriptors": True}))
    decoder = student.spec.decoder
    shell = recorded[f"shell_{decoder.width}_{decoder.depth}"]

    def count(*modules: torch.nn.Module) -> int:
        return sum(parameter.numel() for one in modules for parameter in one.parameters())

    heads = count(student.first_head, student.second_head)
    found = {
        "decoder_embed": count(student.decoder.embed),
        "decoder": count(student.decoder.first, student.decoder.second),
        "block": count(student.decoder.first[0]),
        "dec_norm": count(student.decoder.norm),
        "dpt_heads": heads,
        "descriptor_mlps": count(student.descriptor_heads),
    }
    assert found == {part: shell[part] for part in found}
    parts = [part for part in found if part != "block"]
    assert sum(found[part] for part in parts) + shell["unused"] == shell["total"]
    trunks = recorded["encoders"]
    kept = {
        "S1": "mobilenetv3_large_to_stride_16_torchvision",
        "S2": "dinov2_vits14",
        "S3": "dinov2_vits14",
        "S4": "vit_tiny16_at_512",
    }[name]
    assert count(student.encoder) == trunks[kept]
    lean = count(student) - found["descriptor_mlps"]
    assert lean == recorded["without_descriptors_and_unused"][name]
    # The released S1 goes on to stride 32, which nothing reads.
    dropped = trunks["mobilenetv3_large_to_stride_32"] - trunks[kept] if name == "S1" else 0
    assert count(student) + shell["unused"] + dropped == recorded["students"][name]


@pytest.mark.parametrize(
    ("name", "preset", "network"),
    [
        ("cnn", "scene-cnn", {}),
        ("mobilenet", "scene-mobilenet", {}),
        ("vit_p16_d256_12", "scene-vit", WHOLE),
        ("vit_p32_d256_12", "scene-vit", {**WHOLE, "patch": 32}),
        ("vit_p64_d256_12", "scene-vit", {**WHOLE, "patch": 64}),
        ("vit_p16_d128_12", "scene-vit", {**WHOLE, "width": 128}),
        ("vit_p16_d256_4", "scene-vit", {**WHOLE, "depth": 4}),
    ],
)
def test_networks_of_scenes_have_the_recorded_numbers_of_parameters(
    recorded, name, preset, network
):
    with torch.device("meta"):
        student = build_from_spec(preset_spec(preset, {"network": network}))
    count = sum(parameter.numel() for parameter in student.parameters())
    assert count == recorded["scene_specific"][name]
