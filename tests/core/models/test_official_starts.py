"""Pair students that start from the files of DUSt3R and MASt3R, in both of their formats."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from drawn_networks import Recorded
from official_folders import STEMS, write_folder, write_pickle

from distill3r_core.io.checksums import file_hash
from distill3r_core.models import build_student
from distill3r_core.models.warm_starts.pair_starts import start_by_cut, start_by_projection
from distill3r_core.models.warm_starts.stream_basis import projector, written
from distill3r_core.models.warm_starts.tensor_cut import cut_apart

NARROW = {
    "encoder": {"kind": "croco", "width": 32, "depth": 1, "heads": 2},
    "adapter": False,
    "decoder": {"width": 32, "depth": 4, "heads": 2, "mlp_ratio": 2.0},
    "heads": {"features": 256, "layers": [96, 192, 384, 768], "tail": 128},
}
BRANCHES = {"first": "dec_blocks", "second": "dec_blocks2"}
# Blocks of ten that four take.
BLOCKS = {"svd": (0, 2, 5, 7), "subspace": (0, 3, 6, 9)}
STARTS = {"svd": start_by_cut, "subspace": start_by_projection}
# Tensors of a head that are the teacher's whole, by both names.
WHOLE = {
    "narrow.weight": "head.0.weight",
    "refine.bias": "head.2.bias",
    "out.weight": "head.4.weight",
    "reduce.2.weight": "scratch.layer3_rn.weight",
    "stages.1.unit.conv2.weight": "scratch.refinenet2.resConfUnit2.conv2.weight",
    "resize.3.weight": "act_postprocess.3.1.weight",
}


class Official(NamedTuple):
    """A network of a release: its tensors by their official names, and its files."""

    name: str
    state: dict[str, torch.Tensor]
    files: dict[str, Path]


@pytest.fixture(scope="module", params=["dust3r-512-dpt", "dust3r-512-linear", "mast3r"])
def official(request, golden_dir, tmp_path_factory) -> Official:
    name, folder = request.param, tmp_path_factory.mktemp("official")
    files = {
        "safetensors": write_folder(folder / name, golden_dir, name) / "model.safetensors",
        "pickle": write_pickle(folder / f"{name}.pth", golden_dir, name),
    }
    return Official(name, Recorded(golden_dir, STEMS[name]).state(), files)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("form", ["safetensors", "pickle"])
def test_a_student_starts_from_the_official_tensors(official, form, start):
    torch.manual_seed(0)
    student = build_student("pair-tiny", **NARROW, descriptors=True).eval()
    drawn = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    started = STARTS[start](student, official.files[form])
    found = student.state_dict()
    theirs = official.state
    if start == "svd":
        _assert_cut(found, theirs)
    else:
        _assert_projected(found, theirs)

    heads = {name for name in found if name.startswith(("first_head.", "second_head."))}
    if official.name == "dust3r-512-linear":
        assert "heads random, as the teacher has none of this kind" in started.summary
        assert all(torch.equal(found[name], drawn[name]) for name in heads)
    else:
        for ours, name in WHOLE.items():
            for side, number in (("first", 1), ("second", 2)):
                wanted = theirs[f"downstream_head{number}.dpt.{name}"]
                assert torch.equal(found[f"{side}_head.{ours}"], wanted), name
    described = {name for name in found if name.startswith("descriptor_heads.")}
    if official.name == "mast3r":
        assert started.summary.endswith("; descriptors") or "; descriptors; " in started.summary
        for number in (0, 1):
            bias = theirs[f"downstream_head{number + 1}.head_local_features.fc2.bias"]
            assert torch.equal(found[f"descriptor_heads.{number}.fc2.bias"], bias)
    else:
        assert "descriptors random, as the file has none" in started.summary
        assert all(torch.equal(found[name], drawn[name]) for name in described)
    encoder = {name for name in found if name.startswith("encoder.")}
    assert all(torch.equal(found[name], drawn[name]) for name in encoder)

    assert started.licenses == ("CC BY-NC-SA 4.0",)
    file = official.files[form]
    assert f"init {start} of {file.name} ({file_hash(file)})" in started.summary
    assert f"decoder blocks {', '.join(map(str, BLOCKS[start]))}," in started.summary
    with torch.no_grad():
        maps = student(torch.rand(1, 2, 3, 32, 48))
    assert maps.points_global.shape == (1, 2, 32, 48, 3)
    assert maps.points_global.isfinite().all()


def _assert_cut(found: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Decoder and norms are the cuts of the tensors of the blocks."""
    pairs = {f"decoder.embed.{end}": f"decoder_embed.{end}" for end in ("weight", "bias")}
    pairs |= {f"decoder.norm.{end}": f"dec_norm.{end}" for end in ("weight", "bias")}
    for branch, blocks in BRANCHES.items():
        for number, source in enumerate(BLOCKS["svd"]):
            prefix = f"decoder.{branch}.{number}."
            pairs |= {
                name: f"{blocks}.{source}.{name.removeprefix(prefix)}"
                for name in found
                if name.startswith(prefix)
            }
    assert set(pairs) == {name for name in found if name.startswith("decoder.")}
    for ours, name in pairs.items():
        rows = (48, 48, 48) if ".attn.qkv." in ours else ()
        wanted = cut_apart(theirs[name], found[ours].shape, rows=rows).float()
        torch.testing.assert_close(found[ours], wanted, rtol=0, atol=1e-6, msg=ours)


def _assert_projected(found: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """All that writes into the stream is in the one basis of the file's writers."""
    ends = ("attn.proj.weight", "mlp.fc2.weight")
    writers = [
        tensor
        for name, tensor in theirs.items()
        if name.startswith("dec_blocks") and name.endswith(ends)
    ]
    basis = projector(written([*writers, theirs["decoder_embed.weight"]]), 32)
    pairs = {"decoder.embed.bias": "decoder_embed.bias"}
    for branch, blocks in BRANCHES.items():
        for number, source in enumerate(BLOCKS["subspace"]):
            for layer in ("attn.proj", "cross_attn.proj", "mlp.fc2"):
                pairs[f"decoder.{branch}.{number}.{layer}.bias"] = f"{blocks}.{source}.{layer}.bias"
    for ours, name in pairs.items():
        wanted = (basis.T @ theirs[name].double()).float()
        torch.testing.assert_close(
            basis.float() @ found[ours], basis.float() @ wanted, rtol=0, atol=1e-5, msg=ours
        )
