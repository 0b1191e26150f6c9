"""The student against recorded outputs of the original, from a checkpoint in its layout."""

import numpy as np
import pytest
import recorded
import torch

from distill3r_core.models import build_student, load_student
from distill3r_core.models.multiview.original_checkpoint import PREFIX, to_original
from distill3r_core.models.multiview.spec import RELEASED_ATTENTION_SCALE
from distill3r_core.nn.dpt import hooked_layers
from distill3r_core.nn.view_codes import sequential_view_numbers

MAPS_BAR, RAW_BAR, LAYERS_BAR = 1e-4, 1e-5, 1e-5  # of the largest value
MAPS = {
    "pts3d_in_other_view": "points_global",
    "pts3d_local": "points_local",
    "conf": "confidence_global",
    "conf_local": "confidence_local",
}


@pytest.fixture(scope="module")
def golden(golden_dir):
    return recorded.load_json(golden_dir, "distill3r_student")


@pytest.fixture(scope="module")
def keys(golden_dir):
    return recorded.load_json(golden_dir, "distill3r_student.keys")


@pytest.fixture(scope="module")
def arrays(golden_dir):
    return recorded.load_arrays(golden_dir, "distill3r_student")


@pytest.fixture(scope="module")
def draw(golden_dir):
    return recorded.drawing(golden_dir)


@pytest.fixture(scope="module")
def student(golden, keys, draw, tmp_path_factory):
    """Read from a Lightning checkpoint."""
    names = [(name.removeprefix(PREFIX), shape) for name, shape in keys["tensors"]]
    state = recorded.weights(draw, names, golden["seed"])
    parameters = keys["checkpoint_top_level"]["hyper_parameters"] | golden["args"]
    content = {
        "state_dict": {PREFIX + name: tensor for name, tensor in state.items()},
        "hyper_parameters": {**parameters, "decoder_depth": str(parameters["decoder_depth"])},
    }
    path = tmp_path_factory.mktemp("student") / "epoch=59.ckpt"
    torch.save(content, path)
    return load_student(path)


def views_of(draw, case) -> list[torch.Tensor]:
    """The views of a case, each (B, 3, H, W), RGB in [0, 1]."""
    return [(recorded.drawn(draw, case["inputs"], i=view) + 1) / 2 for view in range(case["views"])]


def set_attention_scale(student, case) -> None:
    """The original drops its factor in train mode, which one case records."""
    scale = student.spec.attention_scale if case["attention_scaled_at_inference"] else 1.0
    for block in student.fusion.blocks:
        block.attn.scale = scale * (student.spec.fusion.width // student.spec.fusion.heads) ** -0.5


@pytest.fixture(scope="module")
def runs(student, golden, draw):
    """Per case: encoder tokens, all layers, raw maps, point maps."""
    found = {}
    for name, case in golden["cases"].items():
        set_attention_scale(student, case)
        images = torch.stack(views_of(draw, case), dim=1)  # (B, N, 3, H, W)
        batch, count = images.shape[:2]
        patch = student.spec.encoder.patch
        grid = (images.shape[-2] // patch, images.shape[-1] // patch)
        with torch.no_grad():
            tokens = student.encode(images.flatten(0, 1)).unflatten(0, (batch, count))
            numbers = sequential_view_numbers(batch, count)
            layers = student.fusion(tokens.flatten(1, 2), numbers, [tokens.shape[2]] * count)
            hooked = [
                layers[hook].unflatten(1, (count, -1)).transpose(0, 1).flatten(0, 1)
                for hook in hooked_layers(student.spec.fusion.depth)
            ]  # views first, as the original stores its raw maps
            raw = {
                "raw_global": student.global_head(hooked, grid),
                "raw_local": student.local_head(hooked, grid),
            }
            found[name] = (tokens, layers, raw, student(images))
    return found


def test_point_maps_and_confidences_are_the_recorded_ones(runs, golden, arrays):
    for name, case in golden["cases"].items():
        wanted, step = recorded.namespaced(arrays, name), case["outputs_spatial_stride"]
        for view in range(case["views"]):
            for theirs, ours in MAPS.items():
                found = getattr(runs[name][3], ours)[:, view, ::step, ::step]
                value = wanted[f"view{view}/{theirs}"]
                assert recorded.relative_error(found, value) < MAPS_BAR, (name, view, theirs)


def test_maps_before_the_activation_are_the_recorded_ones(runs, golden, arrays):
    for name, case in golden["cases"].items():
        step = case["outputs_spatial_stride"]
        for key, raw in runs[name][2].items():
            wanted = arrays[f"{name}/{key}"]
            assert recorded.relative_error(raw[:, :, ::step, ::step], wanted) < RAW_BAR, (name, key)


def test_encoder_and_fusion_layers_are_the_recorded_ones(runs, golden, arrays):
    for name, case in golden["cases"].items():
        wanted = recorded.namespaced(arrays, name)
        tokens, layers, _, _ = runs[name]
        part = recorded.stored(case["encoder_features"])
        found = tokens.transpose(0, 1).flatten(0, 2)[part]  # (N * B * P, D), views first
        assert recorded.relative_error(found, wanted["encoder_features"]) < LAYERS_BAR, name
        part = recorded.stored(case["decoder_slices"])
        assert len(layers) == len(wanted["decoder_slices"])
        for number, layer in enumerate(layers):
            slices = wanted["decoder_slices"][number]
            assert recorded.relative_error(layer[0][part], slices) < LAYERS_BAR, (name, number)
            spread = wanted["decoder_std"][number]
            assert abs(layer.mean() - wanted["decoder_mean"][number]) < LAYERS_BAR * spread
            assert abs(layer.std() / spread - 1) < LAYERS_BAR


def test_views_given_as_a_list_are_the_recorded_ones(student, golden, arrays, draw):
    name = min(golden["cases"], key=lambda name: np.prod(golden["cases"][name]["size_HxW"]))
    case = golden["cases"][name]
    set_attention_scale(student, case)
    with torch.no_grad():
        found = student([view[0] for view in views_of(draw, case)])
    step = case["outputs_spatial_stride"]
    for view, maps in enumerate(found):
        wanted = arrays[f"{name}/view{view}/pts3d_in_other_view"][:1]  # the list is one scene's
        error = recorded.relative_error(maps.points_global[:, ::step, ::step], wanted)
        assert error < MAPS_BAR, (name, view)


def test_released_weights_get_the_released_properties(student):
    assert student.spec.attention_scale == RELEASED_ATTENTION_SCALE
    assert student.spec.normalization == "unit"


def test_the_preset_has_the_names_shapes_and_parameters_of_the_original(keys):
    student = build_student("paper")
    official = to_original(student.state_dict())
    assert {name: list(tensor.shape) for name, tensor in official.items()} == dict(keys["tensors"])
    assert len(official) == keys["state_dict_entries"]
    assert sum(p.numel() for p in student.parameters()) == keys["parameters"]
    parts = {
        "encoder": student.encoder,
        "decoder": student.fusion,
        "downstream_head": student.global_head,
        "downstream_head_local": student.local_head,
    }
    for name, count in keys["parameters_by_child"].items():
        assert sum(p.numel() for p in parts[name].parameters()) == count, name


def test_only_what_the_original_never_reads_is_frozen(keys):
    student = build_student("paper")
    frozen = {name: p for name, p in student.named_parameters() if not p.requires_grad}
    assert set(to_original(frozen)) == set(keys["parameters_never_used_in_forward"])
