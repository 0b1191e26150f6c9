"""Depth Anything 3 against recorded runs of the original, every output that the files list."""

import pytest
import torch
from drawn_networks import Recorded
from recorded import load_json

from distill3r_core.nn.names import rename, reverse
from distill3r_core.teachers.da3.backbone import balance_scores, choose_reference
from distill3r_core.teachers.da3.names import NAMES, PREFIX, read_state, size_of
from distill3r_core.teachers.da3.network import DA3

BAR = 1e-5  # largest difference over largest value
SCORE_BAR = 1e-4  # the score divides by small ranges


@pytest.fixture(scope="module", params=["da3_tiny", "da3_tiny_eps"])
def recorded(request, golden_dir):
    return Recorded(golden_dir, request.param)


def build(recorded, *, tamed=True) -> DA3:
    state = read_state(recorded.state(tamed=tamed))
    network = DA3(size_of(state)).eval()
    network.load_state_dict(rename(state, NAMES))
    return network


def given_cameras(recorded, inputs) -> dict[str, torch.Tensor]:
    if "extrinsics" not in inputs:
        return {}
    cam_from_world, intrinsics = (
        torch.from_numpy(recorded.arrays[inputs[name]["stored"]])
        for name in ("extrinsics", "intrinsics")
    )
    return {
        "world_from_cam": torch.linalg.inv(cam_from_world.double()).float(),
        "intrinsics": intrinsics,
    }


@torch.inference_mode()
def outputs(recorded, case) -> dict[str, torch.Tensor]:
    """Everything that a case may list, under its recorded name."""
    network, inputs = build(recorded), recorded.facts["inputs"][case]
    images = recorded.image(inputs["images"]["formula"])
    scenes, views = images.shape[:2]
    kept: dict[str, torch.Tensor] = {}
    parts: dict[str, list[torch.Tensor]] = {}  # of the heads, which take some views at a time

    def keep(name, module):
        module.register_forward_hook(lambda *call: kept.__setitem__(name, call[-1]))

    def keep_parts(name, module):
        module.register_forward_hook(
            lambda *call: parts.setdefault(name, []).append(call[-1].clone())
        )

    trunk = network.backbone.trunk
    before = trunk.blocks[network.size.alternate_from - 2]
    before.register_forward_hook(
        lambda *call: kept.__setitem__("selection_input", call[-1].unflatten(0, (scenes, views)))
    )
    keep("camera_token", network.camera_encoder)
    keep_parts("refinenet4", network.head.depth_chain.stages[3])
    keep_parts("fused_main", network.head.depth_chain)
    keep_parts("fused_aux", network.head.ray_chain)
    keep_parts("neck_aux", network.head.ray_tail.neck)
    keep("tokens", network.backbone)
    found = network(
        images,
        strategy=inputs["ref_view_strategy"],
        rays=True,
        **given_cameras(recorded, inputs),
    )
    kept |= {name: torch.cat(found_parts) for name, found_parts in parts.items()}
    tokens = kept.pop("tokens")
    world_from_cam, intrinsics = found.cameras()
    rotation = world_from_cam[..., :3].mT
    cam_from_world = torch.cat([rotation, -rotation @ world_from_cam[..., 3:]], dim=-1)
    plain = build(recorded, tamed=False).camera_decoder(tokens.camera)
    class_tokens = kept["selection_input"][:, :, 0]
    return kept | {
        "tokens_in": trunk.embed(images.flatten(0, 1)).unflatten(0, (scenes, views)),
        **{f"feat{index}": tap for index, tap in enumerate(tokens.taps)},
        "ref_score": balance_scores(class_tokens),
        **{
            f"ref_index/{strategy}": choose_reference(class_tokens, strategy)
            for strategy in ("saddle_balanced", "middle", "first")
        },
        "camera_feat": tokens.camera,
        "depth": found.depth,
        "depth_conf": found.confidence,
        "ray": found.rays.rays,
        "ray_conf": found.rays.confidence,
        "pose_enc": found.poses,
        "extrinsics": cam_from_world,
        "intrinsics": intrinsics,
        "pose_enc_plain_fov": plain,
    }


def test_every_output_is_the_recorded_one(recorded):
    for case in recorded.facts["inputs"]:
        found = outputs(recorded, case)
        for name, facts in recorded.outputs(case).items():
            if "value" in facts:
                assert found[name].tolist() == facts["value"], f"{case}/{name}"
                assert recorded.arrays[f"{case}/{name}"].tolist() == facts["value"]
                continue
            bar = SCORE_BAR if name == "ref_score" else BAR
            assert recorded.error(f"{case}/{name}", found[name]) < bar, f"{case}/{name}"


@pytest.mark.parametrize("stem", ["da3_small", "da3_base", "da3_large"])
def test_a_released_size_has_the_tensors_of_its_key_list(golden_dir, stem):
    facts = load_json(golden_dir, f"{stem}.keys")
    official = {name: torch.empty(shape, device="meta") for name, shape in facts["state_dict"]}
    state = read_state({PREFIX + name: tensor for name, tensor in official.items()})
    with torch.device("meta"):
        network = DA3(size_of(state))
    ours = rename(network.state_dict(), reverse(NAMES))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
    assert network.size.taps == tuple(facts["constructor"]["net"]["out_layers"])
    assert network.size.alternate_from == facts["constructor"]["net"]["alt_start"]
    count = sum(tensor.numel() for tensor in network.parameters())
    assert count == facts["parameters"] - facts["never_used_numel"]


def test_a_file_may_keep_the_shared_norm_under_either_name(recorded):
    whole = recorded.state()
    aliases, targets = recorded.facts["aliases"], set(recorded.facts["aliases"].values())
    first_only = {
        name: value
        for name, value in whole.items()
        if name not in targets and (name not in aliases or ".0.2." in name)
    }
    assert len(first_only) < len(whole)
    wanted = read_state(whole)
    found = read_state(first_only)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
