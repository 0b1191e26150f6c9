"""Fast3R against recorded runs of the original, case by case as the JSON files list them."""

import importlib.util
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill3r_core.nn.names import add_aliases, rename, reverse
from distill3r_core.nn.rotary import grid_rotation
from distill3r_core.nn.view_codes import (
    generator_from_global,
    random_view_numbers,
    sequential_view_numbers,
    view_code_table,
)
from distill3r_core.teachers.fast3r_config import parse_config
from distill3r_core.teachers.fast3r_files import (
    FAST3R_NAMES,
    build_network,
    fill_network,
    original_state,
)
from distill3r_core.teachers.fast3r_network import Fast3R

MAPS = 1e-4  # largest error over largest value
LAYERS = 1e-5
PROBES = 1e-4  # absolute
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def facts(golden_dir):
    return json.loads((golden_dir / "fast3r_tiny.json").read_text())


@pytest.fixture(scope="module")
def stored(golden_dir):
    with np.load(golden_dir / "fast3r_tiny.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def draw(golden_dir, facts):
    spec = importlib.util.spec_from_file_location(
        "golden_weights", golden_dir / "golden_weights.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda name, shape, seed=facts["seed"]: torch.from_numpy(
        module.tensor_for(name, shape, seed)
    )


@pytest.fixture(scope="module")
def weights(facts, draw):
    """Every tensor under its official name; of two aliases the later one's value stays."""
    drawn = {name: draw(name, shape) for name, shape in facts["state_dict"]}
    for name in drawn:
        found = re.fullmatch(r"(.*scratch\.layer)(\d)(_rn\.weight)", name)
        if found:
            head, number, _ = found.groups()
            drawn[name] = drawn[f"{head}_rn.{int(number) - 1}.weight"]
    return original_state(drawn)


def build(case, weights) -> Fast3R:
    config = parse_config(case["args"], source="the golden file")
    return fill_network(build_network(config), weights, device=CPU)


def error(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Largest error over largest value; two arrays of one shape."""
    assert tuple(ours.shape) == theirs.shape
    return float(np.abs(ours.numpy() - theirs).max() / np.abs(theirs).max())


def inputs(case, draw) -> list[torch.Tensor]:
    """`tanh(tensor_for(name, shape, seed))`, as the formulas say."""
    images = []
    for formula in case["inputs"]:
        name, shape, seed = re.fullmatch(
            r"tanh\(tensor_for\('(.+)', \((.+)\), (\d+)\)\)", formula
        ).groups()
        images.append(draw(name, [int(n) for n in shape.split(",")], int(seed)).tanh())
    return images


def portrait(case) -> torch.Tensor | None:
    """Which items are stored transposed; (B, N)."""
    if isinstance(case["true_shape"], str):
        return None
    shapes = torch.tensor(case["true_shape"])  # (N, B, 2)
    return (shapes[..., 0] > shapes[..., 1]).T


def watch(module, seen):
    """Keep every output of a module."""
    return module.register_forward_hook(lambda _, __, output: seen.append(output))


def rows_of(text: str) -> list[slice]:
    """`[::5, ::8]` as slices, from a description in the JSON."""
    strides = re.search(r"\[::(\d+), ::(\d+)\]", text).groups()
    return [slice(None, None, int(stride)) for stride in strides]


@torch.inference_mode()
def test_the_published_order_of_operations_gives_the_recorded_maps(facts, stored, draw, weights):
    for name, case in facts["cases"].items():
        network, images = build(case, weights), inputs(case, draw)
        numbers = sequential_view_numbers(case["batch"], len(images))
        views = network(images, numbers, portrait=portrait(case), reference=True)
        stride = case["outputs_spatial_stride"]
        for index, view in enumerate(views):
            points = view.global_maps.points[:, ::stride, ::stride]
            assert error(points, stored[f"{name}/view{index}/pts3d_in_other_view"]) < MAPS


@torch.inference_mode()
def test_every_case_is_the_recorded_one(facts, stored, draw, weights):
    for name, case in facts["cases"].items():
        network, images = build(case, weights), inputs(case, draw)
        seen = {"raw_global": [], "raw_local": [], "layers": []}
        watch(network.global_head, seen["raw_global"])
        watch(network.local_head, seen["raw_local"])
        keep_all_layers(network.fusion, seen["layers"])
        numbers = sequential_view_numbers(case["batch"], len(images))
        assert not case["random_image_idx_embedding"], "recorded cases number views in order"
        views = network(images, numbers, portrait=portrait(case))
        stride = case["outputs_spatial_stride"]
        for index, view in enumerate(views):
            ours = {
                "pts3d_in_other_view": view.global_maps.points,
                "conf": view.global_maps.confidence,
                "pts3d_local": view.local_maps.points,
                "conf_local": view.local_maps.confidence,
            }
            for key, values in ours.items():
                place = f"{name}/view{index}/{key}"
                assert error(values[:, ::stride, ::stride], stored[place]) < MAPS, place
        for key in ("raw_global", "raw_local"):
            recorded = [k for k in stored if k.startswith(f"{name}/{key}/call")]
            assert len(seen[key]) == len(recorded)
            for call, values in enumerate(seen[key]):
                place = f"{name}/{key}/call{call}"
                assert error(values[..., ::stride, ::stride], stored[place]) < LAYERS, place
        compare_layers(name, case, stored, seen["layers"], views=len(images))


def keep_all_layers(fusion, seen):
    """Keep all layers of a forward pass that asks for four of them."""
    forward = fusion.forward

    def keeping(tokens, numbers, lengths, *, layers, on_progress):
        seen.extend(forward(tokens, numbers, lengths))
        seen.append(lengths)
        return [seen[number] for number in layers]

    fusion.forward = keeping


def compare_layers(name, case, stored, seen, *, views):
    """Encoder features, and slices and statistics of every layer of the decoder."""
    *layers, lengths = seen
    features = torch.cat(
        [part.flatten(0, 1) for part in layers[0].split(lengths, dim=1)]
    )  # (views * B * P, D), views first
    place = f"{name}/encoder_features"
    rows, columns = rows_of(case["encoder_features"])
    assert error(features[rows, columns], stored[place]) < LAYERS
    rows, columns = rows_of(case["decoder_slices"].replace("[layer]", ""))
    for number, layer in enumerate(layers):
        slices = stored[f"{name}/decoder_slices"][number]
        assert error(layer[0, rows, columns], slices) < LAYERS, f"{name}, layer {number}"
    means = torch.stack([layer.mean() for layer in layers])
    deviations = torch.stack([layer.std() for layer in layers])
    np.testing.assert_allclose(means, stored[f"{name}/decoder_mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(deviations, stored[f"{name}/decoder_std"], rtol=1e-5)


@torch.inference_mode()
def test_every_layer_norm_has_the_recorded_epsilon(facts, stored, draw, weights):
    case = next(iter(facts["cases"].values()))
    config = replace(parse_config(case["args"], source="the golden file"), scaled_attention=False)
    network = fill_network(build_network(config), weights, device=CPU)
    probe = facts["small"]["input"]
    factor, place, shape, seed, per_row = re.match(
        r"x = ([\d.]+) \* tensor_for\('(.+)', \((.+)\), (\d+)\); token n sits at row n // (\d+)",
        probe,
    ).groups()
    x = float(factor) * draw(place, [int(n) for n in shape.split(",")], int(seed))
    count, columns = x.shape[1], int(per_row)
    head_width = network.encoder.head_width
    grid = grid_rotation(math.ceil(count / columns), columns, head_width)
    rotation = type(grid)(grid.cos[:, :count], grid.sin[:, :count])
    ours = {
        "encoder_block0": network.encoder.blocks[0](x, rotation),
        "encoder_norm": network.encoder.norm(x),
        "decoder_block0": network.fusion.blocks[0](x),
        "decoder_norm": network.fusion.norm(x),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, stored[f"small/{name}"], rtol=0, atol=PROBES)


def test_view_codes_are_the_recorded_rows(facts, stored):
    numbers = [int(n) for n in re.findall(r"\d+", facts["image_idx_emb"].partition(" of ")[0])]
    width = stored["image_idx_emb"].shape[1]
    rows = view_code_table(width)[numbers]
    np.testing.assert_allclose(rows, stored["image_idx_emb"], rtol=0, atol=1e-6)


def test_random_view_numbers_are_the_recorded_draws(facts):
    with torch.random.fork_rng():
        for case in facts["random_image_ids"]:
            torch.manual_seed(case["torch_manual_seed"])
            generator = generator_from_global()
            assert generator.initial_seed() == case["generator_seed_drawn"]
            drawn = random_view_numbers(case["batch"], case["views"], generator)
            assert drawn.tolist() == case["ids"]


@pytest.mark.parametrize("file", ["fast3r_large.keys.json", "fast3r_tiny.json"])
def test_names_shapes_and_counts_are_the_official_ones(golden_dir, file):
    facts = json.loads((golden_dir / file).read_text())
    args = facts["args"] if "args" in facts else next(iter(facts["cases"].values()))["args"]
    network = build_network(parse_config(args, source=file))
    ours = add_aliases(rename(network.state_dict(), reverse(FAST3R_NAMES)))
    listed = facts.get("tensors") or facts["state_dict"]
    assert {name: tuple(value.shape) for name, value in ours.items()} == {
        name: tuple(shape) for name, shape in listed
    }
    assert sum(value.numel() for value in network.parameters()) == facts["parameters"]
