"""DUNE's encoder against recorded tokens of the original."""

from argparse import Namespace

import numpy as np
import pytest
import recorded
import torch

from distill3r_core.models.encoders.dune_files import load_dune

NORMED_BAR, RAW_BAR, PROBE_BAR = 5e-5, 2e-4, 1e-4  # absolute; the tokens have deviation 1


@pytest.fixture(scope="module")
def golden(golden_dir):
    return recorded.load_json(golden_dir, "dune_vits14")


@pytest.fixture(scope="module")
def arrays(golden_dir):
    return recorded.load_arrays(golden_dir, "dune_vits14")


@pytest.fixture(scope="module")
def draw(golden_dir):
    return recorded.drawing(golden_dir)


@pytest.fixture(scope="module")
def encoder(golden, draw, tmp_path_factory):
    """Read from a file of the published layout."""
    state = recorded.weights(draw, golden["state_dict"], golden["seed"])
    path = tmp_path_factory.mktemp("dune") / "dune.pth"
    content = {
        "model": {f"encoder.{name}": tensor for name, tensor in state.items()},
        "args": Namespace(image_size=golden["image_size"], enc_args={"arch": golden["arch"]}),
        "iter": 1,
    }
    torch.save(content, path)
    return load_dune(path)


@pytest.fixture(scope="module")
def tokens(encoder, golden, draw):
    with torch.no_grad():
        return {
            name: encoder.all_tokens(recorded.drawn(draw, case["input"]))
            for name, case in golden["cases"].items()
        }


def error(found: torch.Tensor, wanted: np.ndarray) -> float:
    assert tuple(found.shape) == wanted.shape
    return float(np.abs(found.numpy() - wanted).max())


def test_the_encoder_has_as_many_parameters_as_the_original(encoder, golden):
    assert sum(p.numel() for p in encoder.parameters()) == golden["parameters"]


def test_every_token_is_the_recorded_one(tokens, golden, arrays):
    for name, case in golden["cases"].items():
        wanted = recorded.namespaced(arrays, name)
        part = recorded.stored(case["stored_subsample"])
        found = tokens[name]
        assert error(found.patches[part], wanted["x_norm_patchtokens"]) < NORMED_BAR, name
        assert error(found.class_token, wanted["x_norm_clstoken"]) < NORMED_BAR, name
        assert error(found.registers, wanted["x_norm_regtokens"]) < NORMED_BAR, name
        assert error(found.unnormalized[part], wanted["x_prenorm"]) < RAW_BAR, name


def test_the_position_table_is_resized_by_the_original_rule(encoder, golden, arrays, draw):
    for name, case in golden["cases"].items():
        rows, columns = (side // 14 for side in recorded.drawn(draw, case["input"]).shape[-2:])
        assert rows * columns == case["tokens"]
        with torch.no_grad():
            table = encoder.position_table(rows, columns)
        key = f"{name}/pos_embed_interpolated"
        if rows == columns == encoder.grid:  # nothing is resized, and nothing may be recorded
            assert torch.equal(table, encoder.pos_embed)
            if key not in arrays:
                continue
        part = recorded.stored(case["note"])
        wanted = arrays[key]
        assert error(table[part], wanted) < NORMED_BAR, name


def test_norms_have_the_original_epsilon(encoder, golden, arrays, draw):
    probe = recorded.drawn(draw, golden["small"]["input"])
    with torch.no_grad():
        assert error(encoder.blocks[0](probe), arrays["small/block0"]) < PROBE_BAR
        assert error(encoder.norm(probe), arrays["small/norm"]) < PROBE_BAR
