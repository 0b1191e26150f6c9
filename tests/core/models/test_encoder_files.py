"""Published files of encoders: whole ones fill the encoder, damaged ones are refused by name."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from distill3r_core.errors import InputMissingError, WeightsError
from distill3r_core.models.encoders.encoder_files import fill_mobilenet, fill_vit
from distill3r_core.models.encoders.mobilenet import MobileNetEncoder
from distill3r_core.models.encoders.vit import VitEncoder
from distill3r_core.models.families import preset_spec
from distill3r_core.models.pairs.encoder_files import student_on_encoder
from distill3r_core.nn.dino import build_trunk

GRID = 3


def small_vit() -> VitEncoder:
    return VitEncoder(build_trunk(width=16, depth=1, heads=2, grid=GRID, patch_size=16), kernel=16)


def tensors_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random tensors with a network's names, without the counts of batch norms."""
    return {
        name: torch.rand_like(tensor)
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }


# An encoder, the part that a file is of, its reader, and a tensor of it.
READERS = {
    "mobilenet": (MobileNetEncoder, lambda encoder: encoder, fill_mobilenet, "conv_stem.weight"),
    "vit": (small_vit, lambda encoder: encoder.trunk, fill_vit, "cls_token"),
}


def save(tensors, path):
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", READERS)
def test_a_whole_file_fills_the_encoder(tmp_path, kind, suffix):
    build, part, fill, _ = READERS[kind]
    stored = tensors_of(part(build()))
    save(stored, tmp_path / f"model{suffix}")
    encoder = build()
    fill(encoder, tmp_path / f"model{suffix}")
    found = part(encoder).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in stored.items())


def damaged(kind, damage, path):
    """A file that is no encoder's."""
    build, part, _, name = READERS[kind]
    tensors = tensors_of(part(build()))
    if damage == "missing key":
        del tensors[name]
    elif damage == "wrong shape":
        tensors[name] = torch.zeros(3)
    elif damage == "unknown key":
        tensors["other.weight"] = torch.zeros(2)
    elif damage == "no tensors" and path.suffix == ".pth":
        tensors = {name: "text"}
    save(tensors, path)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "no tensors" and path.suffix != ".pth":
        path.write_bytes(b"\xff" * 64)
    elif damage == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", ["missing key", "wrong shape", "unknown key", "no tensors", "truncated", "empty"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kind", READERS)
def test_a_damaged_file_is_refused_by_name(tmp_path, kind, suffix, damage):
    build, part, fill, name = READERS[kind]
    path = tmp_path / f"model{suffix}"
    damaged(kind, damage, path)
    encoder = build()
    before = {key: value.clone() for key, value in part(encoder).state_dict().items()}
    with pytest.raises(WeightsError) as raised:
        fill(encoder, path)
    assert str(path) in raised.value.message
    if damage in ("missing key", "wrong shape"):
        assert name in raised.value.message
    after = part(encoder).state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(InputMissingError, match=r"model\.safetensors"):
        fill_mobilenet(MobileNetEncoder(), tmp_path)


@pytest.mark.parametrize("shape", [(1, 11, 16), (10, 16), (1, 1, 16), (1, 1 + 257**2, 1)])
def test_a_table_of_positions_that_is_no_square_is_refused_by_name(tmp_path, shape):
    stored = tensors_of(small_vit().trunk) | {"pos_embed": torch.zeros(shape)}
    save_file(stored, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: pos_embed of shape"):
        fill_vit(small_vit(), tmp_path / "a.safetensors")


@pytest.mark.parametrize("shape", [(1, 5, 8), (2, 5, 16)])
def test_a_square_table_of_positions_of_another_width_is_refused_by_name(tmp_path, shape):
    stored = tensors_of(small_vit().trunk) | {"pos_embed": torch.zeros(shape)}
    save_file(stored, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors"):
        fill_vit(small_vit(), tmp_path / "a.safetensors")


def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path):
    stored = tensors_of(MobileNetEncoder())
    stored["conv_stem.weight"][0, 0, 0, 0] = torch.nan
    save_file(stored, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: conv_stem\.weight"):
        fill_mobilenet(MobileNetEncoder(), tmp_path / "a.safetensors")


# Mean and deviation of the images that each network was trained on, as its publishers state them.
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALVES = ([0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize(
    ("preset", "images"),
    [("lunar-s1", IMAGENET), ("lunar-s2", IMAGENET), ("lunar-s4", HALVES)],
    ids=["mobilenet", "dinov2", "vit-tiny"],
)
def test_an_encoder_is_fed_the_images_it_was_trained_on(tmp_path, preset, images):
    # The preset's encoder, at a table of positions and a decoder that are quick to build.
    encoder = preset_spec(preset).encoder
    if preset != "lunar-s1":
        encoder = replace(encoder, position_grid=GRID)
    spec = replace(preset_spec("pair-tiny"), encoder=encoder)
    built = encoder.build()
    stored = tensors_of(built if preset == "lunar-s1" else built.trunk)
    save_file(stored, tmp_path / "model.safetensors")
    student = student_on_encoder(tmp_path, spec)
    assert student.spec.normalization == ("unit" if images is HALVES else "imagenet")
    mean, deviation = torch.tensor(images)[..., None, None]
    picture = torch.rand(1, 3, 2, 2)
    torch.testing.assert_close(student.normalized(picture), (picture - mean) / deviation)
