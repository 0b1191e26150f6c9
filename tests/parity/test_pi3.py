"""Pi3 against recorded runs of the original, every output that the file lists."""

import pytest
import torch
from drawn_networks import Recorded
from recorded import load_json

from distill3r_core.nn.names import rename, reverse
from distill3r_core.teachers.pi3.names import NAMES, size_of
from distill3r_core.teachers.pi3.network import Pi3

BAR = 1e-5  # largest difference over largest value


@pytest.fixture(scope="module", params=["pi3_tiny"])
def recorded(request, golden_dir):
    return Recorded(golden_dir, request.param)


@pytest.fixture(scope="module")
def network(recorded) -> Pi3:
    state = recorded.state()
    network = Pi3(size_of(state)).eval()
    network.load_state_dict(rename(state, NAMES))
    return network


def images_of(recorded, case) -> torch.Tensor:
    return recorded.image(recorded.facts["inputs"][case]["images"]["formula"])


@torch.inference_mode()
def outputs(recorded, network, case) -> dict[str, torch.Tensor]:
    images = images_of(recorded, case)
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, given, output, name=name: kept.update(
                {name: output, "decoder_tokens": given[0]}
            )
        )
        for name, module in (
            ("point_hidden", network.point_decoder),
            ("camera_hidden", network.camera_decoder),
        )
    ]
    found = network(images)
    for hook in hooks:
        hook.remove()
    rotation, translation = found.world_from_cam[..., :3, :3], found.world_from_cam[..., :3, 3]
    normalized = (images - network.image_mean) / network.image_std
    return kept | {
        "dino_patch_tokens": network.encoder(normalized.flatten(0, 1)),
        "local_points": found.local_points,
        "points": found.local_points @ rotation[:, :, None].mT + translation[:, :, None, None],
        "conf": found.logits[..., None],
        "camera_poses": found.world_from_cam,
    }


def test_every_output_is_the_recorded_one(recorded, network):
    for case in recorded.facts["inputs"]:
        found = outputs(recorded, network, case)
        for name in recorded.outputs(case):
            assert recorded.error(f"{case}/{name}", found[name]) < BAR, f"{case}/{name}"


@torch.inference_mode()
def test_the_order_of_the_views_is_of_no_importance(recorded, network):
    case = max(recorded.facts["inputs"], key=lambda name: images_of(recorded, name).shape[1])
    images = images_of(recorded, case)
    forward, backward = network(images), network(images.flip(1))
    for one, other in (
        (forward.local_points, backward.local_points),
        (forward.world_from_cam, backward.world_from_cam),
    ):
        torch.testing.assert_close(one, other.flip(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stem", ["pi3"])
def test_the_released_network_has_the_tensors_of_its_key_list(golden_dir, stem):
    facts = load_json(golden_dir, f"{stem}.keys")
    state = {name: torch.empty(shape, device="meta") for name, shape in facts["state_dict"]}
    size = size_of(state)
    assert size == type(size)()  # the defaults are those of the release
    with torch.device("meta"):
        network = Pi3(size)
    ours = rename(network.state_dict(), reverse(NAMES))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
