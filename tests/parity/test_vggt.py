"""VGGT against recorded runs of the original, every output that the file lists."""

import pytest
import torch
from drawn_networks import Recorded
from recorded import load_json

from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.pose_vectors import split_pose_vector
from distill3r_core.nn.dino import normalize
from distill3r_core.nn.names import rename, reverse
from distill3r_core.teachers.vggt.names import NAMES, read_state, size_of
from distill3r_core.teachers.vggt.network import SPECIAL, VGGT

BAR = 1e-5  # largest difference over largest value


@pytest.fixture(scope="module", params=["vggt_tiny"])
def recorded(request, golden_dir):
    return Recorded(golden_dir, request.param)


@pytest.fixture(scope="module")
def network(recorded) -> VGGT:
    state = read_state(recorded.state())
    network = VGGT(size_of(state)).eval()
    network.load_state_dict(rename(state, NAMES))
    return network


@torch.inference_mode()
def outputs(recorded, network, case) -> dict[str, torch.Tensor]:
    images = recorded.image(recorded.facts["inputs"][case]["images"]["formula"])
    height, width = images.shape[-2:]
    normalized = normalize(images)
    taps = network.aggregator(normalized)
    found = network(images, points=True)
    decoded = torch.from_numpy(recorded.arrays[f"{case}/decode/pose_enc_in"])
    cam_from_world, intrinsics = split_pose_vector(decoded, (height, width))
    local = unproject(found.depth, intrinsics, center=0.0)  # (B, S, H, W, 3)
    rotation, translation = cam_from_world[..., :3], cam_from_world[:, :, None, None, :, 3]
    world = (local - translation) @ rotation[:, :, None]
    wanted = recorded.facts["outputs"][f"{case}/decode/points_from_depth"]["shape"]
    return {
        "dino_patch_tokens": network.aggregator.encoder(normalized.flatten(0, 1)),
        # The taps of a network this small are all of its pairs of blocks.
        **{f"agg{index}": tap for index, tap in zip(network.size.taps, taps, strict=True)},
        "pose_enc_all": torch.stack(network.camera_head(taps[-1][:, :, 0])),
        "pose_enc": found.poses,
        "depth": found.depth[..., None],
        "depth_conf": found.depth_confidence,
        "world_points": found.points,
        "world_points_conf": found.points_confidence,
        "decode/pose_enc_in": decoded,
        "decode/extrinsic": cam_from_world,
        "decode/intrinsic": intrinsics,
        # The original knows one scene here, and has no axis for more.
        "decode/points_from_depth": world.flatten(0, 1)[: wanted[0]] if len(wanted) == 4 else world,
    }


def test_every_output_is_the_recorded_one(recorded, network):
    for case in recorded.facts["inputs"]:
        found = outputs(recorded, network, case)
        for name in recorded.outputs(case):
            assert recorded.error(f"{case}/{name}", found[name]) < BAR, f"{case}/{name}"


@torch.inference_mode()
def test_scenes_of_a_batch_do_not_see_each_other(recorded, network):
    case = next(iter(recorded.facts["inputs"]))
    images = recorded.image(recorded.facts["inputs"][case]["images"]["formula"])[:1]
    other = images.flip(1)
    both = network(torch.cat([images, other]))
    for scene, alone in enumerate((images, other)):
        torch.testing.assert_close(both.depth[scene], network(alone).depth[0], rtol=1e-4, atol=1e-5)


def test_the_taps_begin_where_the_special_tokens_end(recorded, network):
    case = next(iter(recorded.facts["inputs"]))
    images = recorded.image(recorded.facts["inputs"][case]["images"]["formula"])
    with torch.inference_mode():
        taps = network.aggregator(images)
    assert taps[0].shape[2] == SPECIAL + images.shape[-2] * images.shape[-1] // 14**2


@pytest.mark.parametrize("points", [True, False])
@pytest.mark.parametrize("stem", ["vggt_1b"])
def test_the_released_network_has_the_tensors_of_its_key_list(golden_dir, stem, points):
    facts = load_json(golden_dir, f"{stem}.keys")
    official = {name: torch.empty(shape, device="meta") for name, shape in facts["state_dict"]}
    state = read_state(official, points=points)
    size = size_of(state)
    assert size == type(size)()  # the defaults are those of the release
    with torch.device("meta"):
        network = VGGT(size, points=points)
    ours = rename(network.state_dict(), reverse(NAMES))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }
