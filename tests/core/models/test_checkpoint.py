"""Students on disk: what is written is what is read, and damage is named."""

import dataclasses
import json
import shutil
import struct

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_runs import write_run

from distill3r_core.config import merge
from distill3r_core.errors import (
    DamageError,
    Distill3rError,
    InputMissingError,
    WeightsError,
)
from distill3r_core.io import checksums
from distill3r_core.models import StudentMetadata, build_student, load_student, save_student
from distill3r_core.models.checkpoint import HEADER
from distill3r_core.stages.convert import convert
from distill3r_core.training import checkpoints


@pytest.fixture
def student():
    torch.manual_seed(0)
    return build_student("tiny", attention_scale=1.1, normalization="imagenet")


@pytest.fixture
def metadata(student):
    return StudentMetadata(
        preset="tiny",
        spec=student.spec,
        size=(70, 98),
        fit={"size": [70, 98], "mode": "squash"},
        teacher="depth",
        licenses=("teacher: none",),
        unit="m",
        pictures="pictures.txt",
        settings={"optim": {"lr": 1e-3}},
        step=12,
    )


@pytest.fixture
def path(tmp_path, student, metadata):
    path = tmp_path / "alone" / "model.safetensors"
    save_student(path, student, metadata)
    return path


def test_a_run_a_checkpoint_and_a_file_give_the_same_student(path, student, metadata, tmp_path):
    images = torch.rand(1, 2, 3, 14, 28)
    best = write_run(tmp_path / "run", student, metadata) / "model.safetensors"
    (tmp_path / "linked.safetensors").symlink_to(best)
    places = (best, best.parent, best.parents[2], best.parents[1] / "best", str(best))
    for place in (*places, tmp_path / "linked.safetensors", path, path.parent):
        found = load_student(place)
        assert not found.training
        assert dataclasses.replace(found.metadata, version="") == metadata
        assert found.spec == student.spec
        with torch.no_grad():
            wanted = student.eval()(images).points_global
            assert torch.equal(found(images).points_global, wanted)


def test_a_channels_last_student_is_written_as_any_other(tmp_path, student, metadata, path):
    other = tmp_path / "other.safetensors"
    save_student(other, student.to(memory_format=torch.channels_last), metadata)
    assert other.read_bytes() == path.read_bytes()


def test_the_spec_that_is_stored_is_the_students(tmp_path, student, metadata):
    lying = dataclasses.replace(metadata, spec=build_student("small").spec)
    save_student(tmp_path / "a.safetensors", student, lying)
    assert load_student(tmp_path / "a.safetensors").spec == student.spec


@pytest.fixture
def checkpoint(tmp_path, student, metadata):
    """A run's second checkpoint, as training writes it."""
    for step in (1, 2):
        folder = checkpoints.save(
            tmp_path / "run",
            step=step,
            save_model=lambda path: save_student(path, student, metadata),
            optimizer={},
            state={},
        )
    return folder


def test_one_flipped_bit_in_a_runs_weights_is_refused(checkpoint):
    model = checkpoint / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1000] ^= 1  # among the tensors: the file reads well
    model.write_bytes(content)
    run = checkpoint.parents[1]
    for path in (run, run / "checkpoints/last", checkpoint, model):
        with pytest.raises(WeightsError, match=r"model\.safetensors is damaged") as caught:
            load_student(path)
        assert "step-000001" in caught.value.hint
        assert "step-000002" not in caught.value.hint
    load_student(run / "checkpoints/step-000001")


def test_a_damaged_state_vouches_for_nothing(checkpoint):
    state = checkpoint / "state.json"
    state.write_text(state.read_text().replace('"step": 2', '"step": 3'))
    with pytest.raises(WeightsError, match=r"state\.json is damaged"):
        load_student(checkpoint)


@pytest.mark.parametrize("lost", ["missing", "a folder", "empty", "of no file", "of no weights"])
def test_weights_in_a_run_are_not_used_without_their_state(checkpoint, tmp_path, lost):
    state, model = checkpoint / "state.json", checkpoint / "model.safetensors"
    said = checksums.read_state(checkpoint)
    del said["files"]["model.safetensors"]
    state.unlink()
    if lost == "a folder":
        state.mkdir()
    elif lost == "empty":
        state.touch()
    elif lost != "missing":
        changed = {"files": {}} if lost == "of no file" else {}
        checksums.write_state(checkpoint, said | changed)
    (tmp_path / "linked.safetensors").symlink_to(model)
    run = checkpoint.parents[1]
    checkpoints.link(run, "best", 2)
    refused = r"state\.json (is missing|is damaged|cannot be read)"
    for path in (run, run / "checkpoints/best", checkpoint, model, tmp_path / "linked.safetensors"):
        with pytest.raises(WeightsError, match=refused) as caught:
            load_student(path)
        assert "step-000001" in caught.value.hint
    with pytest.raises(DamageError):
        checkpoints.read(checkpoint)
    load_student(run / "checkpoints/step-000001")
    shutil.copy(model, tmp_path / "model.safetensors")  # nobody's any more
    load_student(tmp_path / "model.safetensors")


def test_weights_alone_have_no_one_to_vouch_for_them(checkpoint, tmp_path):
    (tmp_path / "state.json").write_text("{}")  # of another program
    copied = checkpoint.joinpath("model.safetensors").rename(tmp_path / "mine.safetensors")
    load_student(copied)


@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_a_truncated_file_is_named(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_student(path)


def test_a_missing_and_a_foreign_tensor_are_both_named(path):
    tensors = load_file(path)
    (header_size,) = struct.unpack("<Q", path.read_bytes()[:8])
    header = json.loads(path.read_bytes()[8 : 8 + header_size])["__metadata__"]
    tensors["stranger"] = tensors.pop("fusion.norm.bias")
    tensors["fusion.norm.weight"] = torch.zeros(3)
    save_file(tensors, path, metadata=header)
    with pytest.raises(WeightsError) as caught:
        load_student(path)
    for line in ("missing: fusion.norm.bias", "unknown: stranger", "fusion.norm.weight: (3,)"):
        assert line in caught.value.message


def test_a_file_with_the_former_names_of_an_encoder_is_said_to_be_of_an_earlier_version(path):
    tensors = load_file(path)
    (header_size,) = struct.unpack("<Q", path.read_bytes()[:8])
    header = json.loads(path.read_bytes()[8 : 8 + header_size])["__metadata__"]
    tensors["encoder.projection.weight"] = torch.zeros(384, 3, 14, 14)
    save_file(tensors, path, metadata=header)
    target = path.with_name("again.safetensors")
    for read in (load_student, lambda file: convert(file, target)):
        with pytest.raises(WeightsError, match="made by an earlier version") as caught:
            read(path)
        assert caught.value.hint.startswith("make it again")
    assert not target.exists()


def test_a_file_without_description_is_not_a_student(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not written by distill3r"):
        load_student(tmp_path / "other.safetensors")


def test_an_unknown_property_in_the_description_is_named(path, metadata):
    tensors, record = load_file(path), json.loads(metadata.as_json())
    save_file(tensors, path, metadata={HEADER: json.dumps(record | {"new_thing": 1})})
    with pytest.raises(WeightsError, match="new_thing"):
        load_student(path)


def test_what_is_not_there_is_missing(tmp_path):
    with pytest.raises(InputMissingError, match="nowhere"):
        load_student(tmp_path / "nowhere")
    with pytest.raises(InputMissingError, match="no checkpoint"):
        load_student(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": {"width": 0}}, r"encoder.*width"),
        ({"fusion": {"depth": 10**9}}, r"fusion\.depth"),
        ({"heads": {"features": 2**40}}, r"heads\.features"),
        ({"encoder": {"width": 16000}}, "instead of"),
        ({"fusion": {"heads": 7}}, "7 heads"),
    ],
)
def test_a_description_of_another_network_is_refused_before_it_is_built(
    path, metadata, change, said
):
    tensors, record = load_file(path), json.loads(metadata.as_json())
    record["spec"] = merge(record["spec"], change)
    save_file(tensors, path, metadata={HEADER: json.dumps(record)})
    before = psutil.Process().memory_info().rss
    with pytest.raises(Distill3rError, match=said):
        load_student(path)
    assert psutil.Process().memory_info().rss < before + 2**28
