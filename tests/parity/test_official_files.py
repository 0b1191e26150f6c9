"""Files in the official layouts, through every public way in; and files that only look like them.

They are made of the recorded names with weights drawn by name, so they need the recorded folder.
"""

import json
import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import recorded
import torch
from safetensors.torch import load_file

import distill3r_core
from distill3r_core.errors import WeightsError
from distill3r_core.models.checkpoint import load_student
from distill3r_core.models.encoders.dune_files import load_dune
from distill3r_core.models.encoders.dune_weights import DUNE_FILES
from distill3r_core.models.families import preset_spec
from distill3r_core.models.multiview.family import student_on_dune
from distill3r_core.models.multiview.original_checkpoint import PREFIX
from distill3r_core.models.multiview.spec import RELEASED_ATTENTION_SCALE


class Hostile:
    """Makes a folder when it is unpickled: the mark of code that was run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def draw(golden_dir):
    return recorded.drawing(golden_dir)


@pytest.fixture(scope="module")
def keys(golden_dir):
    return recorded.load_json(golden_dir, "distill3r_student.keys")


@pytest.fixture(scope="module")
def content(keys, draw):
    """What a Lightning checkpoint holds, with numbers that are strings and a filter's weights."""
    names = [(name.removeprefix(PREFIX), shape) for name, shape in keys["tensors"]]
    state = {PREFIX + n: t for n, t in recorded.weights(draw, names, keys.get("seed", 0)).items()}
    top = keys["checkpoint_top_level"]
    parameters = top["hyper_parameters"]
    parameters = {**parameters, **{name: str(parameters[name]) for name in ("decoder_depth",)}}
    return {
        "epoch": top["epoch"],
        "global_step": 40,
        "pytorch-lightning_version": top["pytorch-lightning_version"],
        "state_dict": {**state, "teacher_filter.scale": torch.ones(3)},
        "loops": {},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": "x"}},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": top["hparams_name"],
        "hyper_parameters": parameters,
    }


@pytest.fixture(scope="module")
def checkpoint(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "epoch=59-loss=0.1.ckpt"
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def dune_content(golden_dir, draw):
    """The whole published layout: wrapped names, projectors, norms, an optimizer, arrays."""
    golden = recorded.load_json(golden_dir, "dune_vits14")
    state = recorded.weights(draw, golden["state_dict"], golden["seed"])
    others = {
        "module.projectors.mast3r_vitlarge_16.linear.weight": torch.zeros(4, 4),
        "module.teacher_norms.mast3r_vitlarge_16.normalizers.cls.mean": torch.zeros(4),
    }
    schedule = np.linspace(0.0, 1.0, 5)
    return {
        "model": {f"module._orig_mod.encoder.{n}": t for n, t in state.items()} | others,
        "args": Namespace(
            image_size=golden["image_size"], enc_args={"arch": golden["arch"]}, lr=schedule,
            last_lr=schedule[-1], output_dir=Path("runs"),
        ),
        "iter": 7,
        "optimizer": {"state": {}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def dune_file(dune_content, tmp_path_factory):
    path = tmp_path_factory.mktemp("dune") / "dune_vitsmall14_448.pth"
    torch.save(dune_content, path)
    return path


def test_a_checkpoint_is_read_by_the_public_function(checkpoint, content):
    student = distill3r_core.load_student(checkpoint)
    assert student.spec.attention_scale == RELEASED_ATTENTION_SCALE
    assert student.metadata.teacher == "fast3r"
    assert student.metadata.step == content["global_step"]
    wanted = content["state_dict"][PREFIX + "decoder.dec_norm.weight"]
    assert torch.equal(student.fusion.norm.weight, wanted)


def test_a_checkpoint_is_converted_and_back_bit_by_bit(
    cli_inprocess, checkpoint, content, tmp_path
):
    status, out, error = cli_inprocess(
        "convert", checkpoint, "student.safetensors", "--json", cwd=tmp_path
    )
    assert status == 0, error
    spec = json.loads(out)["result"]["spec"]
    assert spec["normalization"] == "unit"
    assert spec["attention_scale"] == RELEASED_ATTENTION_SCALE
    student = load_student(tmp_path / "student.safetensors")
    assert student.metadata.size == (224, 518)
    assert student.metadata.fit == load_student(checkpoint).metadata.fit
    assert student.metadata.licenses

    status, _, error = cli_inprocess("convert", "student.safetensors", "back.ckpt", cwd=tmp_path)
    assert status == 0, error
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    wanted = {n: t for n, t in content["state_dict"].items() if not n.startswith("teacher_filter")}
    assert back["state_dict"].keys() == wanted.keys()
    assert all(torch.equal(back["state_dict"][name], wanted[name]) for name in wanted)
    again = load_student(tmp_path / "back.ckpt")
    assert again.spec == student.spec

    status, _, error = cli_inprocess("convert", "student.safetensors", "back.ckpt", cwd=tmp_path)
    assert status == 2
    assert "--overwrite" in error


def test_a_checkpoint_is_converted_cold(cli, checkpoint, tmp_path):
    done = cli("convert", checkpoint, "student.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(load_file(tmp_path / "student.safetensors")) == 380  # without the aliases


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop(PREFIX + "encoder.norm.bias"), "missing: encoder.norm.bias"),
        (
            lambda state: state.update({PREFIX + "extra.bias": torch.zeros(1)}),
            "unknown: extra.bias",
        ),
        (
            lambda state: state.update({PREFIX + "encoder.norm.bias": torch.zeros(3)}),
            "encoder.norm.bias: (3,) instead of",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_a_tensor_that_does_not_fit_is_named(cli_inprocess, content, tmp_path, change, named):
    state = dict(content["state_dict"])
    change(state)
    torch.save({**content, "state_dict": state}, tmp_path / "bad.ckpt")
    with pytest.raises(WeightsError, match="does not fit") as caught:
        load_student(tmp_path / "bad.ckpt")
    assert named in caught.value.message
    status, _, error = cli_inprocess("convert", "bad.ckpt", "out.safetensors", cwd=tmp_path)
    assert status == 3
    assert named in error
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_checkpoint_is_named(cli_inprocess, checkpoint, tmp_path, share):
    whole = checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    status, _, error = cli_inprocess("convert", "cut.ckpt", "out.safetensors", cwd=tmp_path)
    assert status == 3
    assert "cut.ckpt" in error
    assert "Traceback" not in error


def test_a_hostile_checkpoint_is_refused_and_not_run(cli_inprocess, content, tmp_path):
    for name, bad in (
        ("a.ckpt", {**content, "callbacks": Hostile(tmp_path / "run")}),
        ("b.ckpt", Hostile(tmp_path / "run")),
    ):
        torch.save(bad, tmp_path / name)
        status, _, error = cli_inprocess("convert", name, "out.safetensors", cwd=tmp_path)
        assert status == 3
        assert "refused" in error
        assert "mkdir" in error
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "wrong",
    [{"model": {}}, {"state_dict": {"net.weight": torch.zeros(1)}}, [1, 2], torch.zeros(3)],
    ids=["keys", "prefix", "list", "tensor"],
)
def test_another_file_is_no_checkpoint(tmp_path, wrong):
    torch.save(wrong, tmp_path / "wrong.ckpt")
    with pytest.raises(WeightsError, match="no checkpoint of Distill3R"):
        load_student(tmp_path / "wrong.ckpt")


def test_text_is_no_checkpoint(tmp_path):
    (tmp_path / "page.ckpt").write_text("<html>Sign in to download</html>")
    with pytest.raises(WeightsError, match="cannot read"):
        load_student(tmp_path / "page.ckpt")


def test_hyper_parameters_that_are_no_numbers_and_other_encoders_are_named(content, tmp_path):
    path = tmp_path / "bad.ckpt"
    for change, named in (
        ({"decoder_depth": "six"}, "six"),
        ({"encoder_type": "dinov3"}, "dinov3"),
    ):
        torch.save({**content, "hyper_parameters": content["hyper_parameters"] | change}, path)
        with pytest.raises(WeightsError, match=named):
            load_student(path)


def test_a_published_encoder_starts_a_student(dune_file, dune_content):
    student = student_on_dune(dune_file, preset_spec("paper"))
    assert student.spec.normalization == "imagenet"
    wanted = dune_content["model"]["module._orig_mod.encoder.cls_token"]
    assert torch.equal(student.encoder.cls_token, wanted)
    with torch.no_grad():
        maps = student.eval()(torch.rand(1, 2, 3, 28, 42))
    assert maps.points_global.isfinite().all()


def test_the_larger_encoder_and_the_smaller_table_are_read_too(draw, tmp_path):
    width, grid = 768, 24
    names = {
        "cls_token": (1, 1, width), "pos_embed": (1, 1 + grid**2, width),
        "register_tokens": (1, 4, width), "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,),
        "norm.weight": (width,), "norm.bias": (width,),
    }  # fmt: skip
    for block in range(12):
        for name, shape in {
            "norm1.weight": (width,), "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
            "ls1.gamma": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
            "ls2.gamma": (width,),
        }.items():  # fmt: skip
            names[f"blocks.0.{block}.{name}"] = shape
    state = {f"encoder.{name}": torch.zeros(shape) for name, shape in names.items()}
    arguments = Namespace(image_size=14 * grid, enc_args={"arch": "vit_base"})
    torch.save({"model": state, "args": arguments, "iter": 0}, tmp_path / "b.pth")
    encoder = load_dune(tmp_path / "b.pth")
    # 86,318,592 with the table of 448 pixels
    assert sum(p.numel() for p in encoder.parameters()) == 86_318_592 - (32**2 - grid**2) * width
    assert encoder.position_table(grid, grid) is encoder.pos_embed


@pytest.mark.parametrize("kind", ["hostile", "cut", "other", "missing", "arch"])
def test_another_file_is_no_dune(dune_file, dune_content, tmp_path, kind):
    path = tmp_path / "bad.pth"
    bad = dict(dune_content)
    if kind == "hostile":
        bad["args"] = Hostile(tmp_path / "run")
    elif kind == "other":
        del bad["args"]
    elif kind == "missing":
        bad["model"] = {n: t for n, t in bad["model"].items() if not n.endswith("cls_token")}
    elif kind == "arch":
        bad["args"] = Namespace(image_size=448, enc_args={"arch": "vit_giant"})
    torch.save(bad, path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    named = {
        "hostile": "refused", "cut": "cannot read", "other": "no file of DUNE",
        "missing": "missing: cls_token", "arch": "vit_giant",
    }[kind]  # fmt: skip
    with pytest.raises(WeightsError, match=named):
        load_dune(path)
    assert not (tmp_path / "run").exists()


def test_a_file_that_was_put_in_its_place_is_found(cli_inprocess, dune_file, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    place = DUNE_FILES["dune-vits-448"].place
    place.parent.mkdir(parents=True)
    place.symlink_to(dune_file)
    status, out, error = cli_inprocess("models", "list", "--json", cwd=tmp_path)
    assert status == 0, error
    rows = {row["name"]: row for row in json.loads(out)["result"]["models"]}
    assert rows["dune-vits-448"]["state"] == "unverified"
    assert len(rows["dune-vits-448"]["sha256"]) == 64
    assert rows["dune-vitb-448"]["state"] == "missing"
    status, out, _ = cli_inprocess("models", "path", "dune-vits-448", cwd=tmp_path)
    assert status == 0
    assert out.strip() == str(place)
