"""Costs of teachers agree with a profiler's count."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from distill3r_core.nn.counts import total_flop
from distill3r_core.nn.dpt import DPTHead
from distill3r_core.nn.dpt_reference import published_order
from distill3r_core.teachers import TEACHERS
from distill3r_core.teachers.da3.backbone import DA3Size
from distill3r_core.teachers.da3.network import DA3
from distill3r_core.teachers.pairwise.graph import pairs_of
from distill3r_core.teachers.pairwise.network import PairNetwork, PairSize
from distill3r_core.teachers.pi3.network import Pi3, Pi3Size
from distill3r_core.teachers.vggt.network import VGGT, VGGTSize

WIDTHS = (8, 12, 16, 20)
TINY = {
    "da3-small": DA3Size(32, 7, 2, 16, WIDTHS, 3, (3, 4, 5, 6), grid=5),
    "vggt": VGGTSize(32, 2, 2, 4, 3, 16, WIDTHS, (0, 1, 2, 3), grid=5),
    "pi3": Pi3Size(32, 16, 2, 5, 48, 2, 24, 32, grid=5),
    "mast3r": PairSize(32, 2, 2, 48, 4, 3, "dpt", 16, WIDTHS, 4),
    "dust3r-512-dpt": PairSize(32, 2, 2, 48, 4, 3, "dpt", 16, WIDTHS),
    "dust3r-512-linear": PairSize(32, 2, 2, 48, 4, 3, "linear"),
}
SETTINGS = {
    "da3-small": ({}, {"cameras": "given"}),
    "vggt": ({}, {"point_map": "own"}),
    "mast3r": ({}, {"graph": "oneref"}),
}
CASES = [(name, values) for name in TINY for values in SETTINGS.get(name, ({},))]
QUICK = ("da3-small", "dust3r-512-linear")
# Fast3R's counts are held to products traced over the original's modules, with those of students.
ELSEWHERE = ("fast3r",)
FULL = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in TEACHERS
    if TEACHERS[name].cost is not None and name not in ELSEWHERE
]


@pytest.fixture(autouse=True)
def published(monkeypatch):
    """Heads of DUSt3R in the published order, which is what is counted."""
    monkeypatch.setattr(DPTHead, "forward", published_order)


def traced(network, images, settings):
    """FLOP of a prediction as torch's profiler counts them, attention as products."""
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        run(network, images, settings)
    return counter.get_total_flops()


def run(network, images, settings):
    views = images.shape[1]
    if isinstance(network, DA3):
        given = {}
        if settings.cameras == "given":
            pose = torch.eye(4, device=images.device).expand(1, views, 4, 4)
            given = {"world_from_cam": pose, "intrinsics": pose[..., :3, :3]}
        network(images, **given)
    elif isinstance(network, VGGT):
        network(images, points=settings.point_map == "own")
    elif isinstance(network, Pi3):
        network(images)
    else:
        tokens = [network.encode(image) for image in images.unbind(1)]
        pairs = pairs_of(views, settings.graph) if views > 1 else [(0, 0)]
        for one, two in pairs:
            network.decode(tokens[one], tokens[two])


def build(size):
    if isinstance(size, DA3Size):
        return DA3(size)
    if isinstance(size, VGGTSize):
        return VGGT(size)
    if isinstance(size, Pi3Size):
        return Pi3(size)
    return PairNetwork(size)


@pytest.mark.parametrize(("name", "values"), CASES)
def test_a_small_network_takes_the_products_that_its_forward_runs(name, values):
    record, network = TEACHERS[name], build(TINY[name]).eval()
    settings = record.read_settings(values)
    patch = getattr(TINY[name], "patch_size", 14)
    size = (3 * patch, 7 * patch)  # odd sides: levels are rounded up

    found = [traced(network, torch.rand(1, n, 3, *size), settings) for n in (1, 2, 3)]
    counted = [
        total_flop(record.cost.flop(TINY[name], n, size, settings=settings)) for n in (1, 2, 3)
    ]
    # What does not grow with the views falls out: a table of positions is resized once.
    assert [b - a for a, b in pairwise(counted)] == pytest.approx(
        [b - a for a, b in pairwise(found)], rel=1e-9
    )


@pytest.mark.parametrize("name", FULL)
def test_the_published_network_takes_them_too(name, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # none on meta
    record = TEACHERS[name]
    settings, size = record.read_settings({}), (224, 336)
    with torch.device("meta"):
        network = build(record.cost.published).eval()
        found = traced(network, torch.empty(1, 3, 3, *size), settings)
    counted = total_flop(record.cost.flop(record.cost.published, 3, size, settings=settings))
    assert counted == pytest.approx(found, rel=1e-3)  # a table of positions is resized too
