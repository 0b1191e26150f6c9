"""DUSt3R and MASt3R against recorded runs of the originals, every output that the files list."""

import pytest
import torch
from drawn_networks import Recorded
from recorded import load_json

from distill3r_core.nn.names import rename, reverse
from distill3r_core.nn.pairs.official_names import NAMES
from distill3r_core.teachers.pairwise.names import read_state, size_of
from distill3r_core.teachers.pairwise.network import PairNetwork, PairSize

BAR = 1e-5  # largest difference over largest value


@pytest.fixture(scope="module", params=["dust3r_tiny", "dust3r_linear_tiny", "mast3r_tiny"])
def recorded(request, golden_dir):
    return Recorded(golden_dir, request.param)


@pytest.fixture(scope="module")
def network(recorded) -> PairNetwork:
    state, sizes = read_state(recorded.state(), descriptors=True), recorded.facts["constructor"]
    size = size_of(state, heads=sizes["enc_num_heads"], decoder_heads=sizes["dec_num_heads"])
    network = PairNetwork(size).eval()
    network.load_state_dict(rename(state, NAMES))
    return network


@torch.inference_mode()
def outputs(recorded, network, case) -> dict[str, torch.Tensor]:
    inputs = recorded.facts["inputs"][case]
    images = [recorded.image(inputs[name]["formula"]) for name in ("img1", "img2")]
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        blocks[0].register_forward_hook(
            lambda _, __, output, name=name: kept.__setitem__(name, output)
        )
        for name, blocks in (("blk1_0", network.decoder.first), ("blk2_0", network.decoder.second))
    ]
    last: list[torch.Tensor] = []  # of both branches, behind the one norm that they share
    hooks.append(network.decoder.norm.register_forward_hook(lambda *call: last.append(call[-1])))
    views = [network.encode(image) for image in images]
    first, second = network.decode(*views, descriptors=network.size.descriptors > 0)
    for hook in hooks:
        hook.remove()
    found = kept | {
        "enc1": views[0].tokens,
        "enc2": views[1].tokens,
        "dec1": last[0],
        "dec2": last[1],
        "view1/pts3d": first.points,
        "view1/conf": first.confidence,
        "view2/pts3d_in_other_view": second.points,
        "view2/conf": second.confidence,
    }
    for name, maps in (("view1", first), ("view2", second)):
        if maps.descriptors is not None:
            found[f"{name}/desc"] = maps.descriptors
            found[f"{name}/desc_conf"] = maps.descriptor_confidence
    return found


def test_every_output_is_the_recorded_one(recorded, network):
    for case in recorded.facts["inputs"]:
        found = outputs(recorded, network, case)
        for name in recorded.outputs(case):
            assert recorded.error(f"{case}/{name}", found[name]) < BAR, f"{case}/{name}"


@torch.inference_mode()
def test_pairs_of_a_batch_do_not_see_each_other(recorded, network):
    pairs = [
        [recorded.image(inputs[name]["formula"])[:1] for name in ("img1", "img2")]
        for inputs in recorded.facts["inputs"].values()
    ]
    one, two = next(pair for pair in pairs if pair[0].shape == pair[1].shape)
    both = network(torch.cat([one, two]), torch.cat([two, one]))
    for row, pair in enumerate(((one, two), (two, one))):
        for together, alone in zip(both, network(*pair), strict=True):
            torch.testing.assert_close(together.points[row], alone.points[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stem", ["dust3r_large", "mast3r_large"])
def test_a_released_network_has_the_tensors_of_its_key_list(golden_dir, stem):
    facts = load_json(golden_dir, f"{stem}.keys")
    official = {name: torch.empty(shape, device="meta") for name, shape in facts["state_dict"]}
    state = read_state(official, descriptors=True)
    size = size_of(state)
    assert size == PairSize(descriptors=24 if stem == "mast3r_large" else 0)
    with torch.device("meta"):
        network = PairNetwork(size)
    ours = rename(network.state_dict(), reverse(NAMES))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }


def test_a_file_without_a_second_branch_starts_it_as_the_first(recorded):
    whole = recorded.state()
    single = {name: value for name, value in whole.items() if not name.startswith("dec_blocks2.")}
    state = read_state(single)
    assert state.keys() == read_state(whole).keys()
    assert torch.equal(state["dec_blocks2.0.norm1.weight"], state["dec_blocks.0.norm1.weight"])
