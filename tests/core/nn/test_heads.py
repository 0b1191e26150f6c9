"""The DPT head: the fast order of operations is the published function."""

import pytest
import torch

from distill3r_core.nn.dpt import DPTHead, hooked_layers
from distill3r_core.nn.dpt_reference import published_order
from distill3r_core.nn.maps import predict_maps
from distill3r_core.nn.outputs import confidence_from_raw, points_from_raw
from distill3r_core.types import PointMap

WIDTHS = (12, 8, 8, 8)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return DPTHead(WIDTHS, patch_size=14, features=16, layer_widths=(4, 6, 8, 10))


def tokens(views: int, patches: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(views, patches, width, dtype=dtype) for width in WIDTHS]


@pytest.mark.parametrize("grid", [(2, 3), (3, 5), (1, 1), (1, 4), (4, 2)])
@pytest.mark.parametrize("patch", [14, 16])
def test_the_fast_order_is_the_published_one_up_to_rounding(grid, patch):
    torch.manual_seed(1)
    head = DPTHead(WIDTHS, patch_size=patch, features=16, layer_widths=(4, 6, 8, 10)).double()
    layers = tokens(2, grid[0] * grid[1], torch.float64)
    found, wanted = head(layers, grid), published_order(head, layers, grid)
    assert found.shape == (2, 4, patch * grid[0], patch * grid[1])
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


def test_gradients_are_those_of_the_published_order(head):
    head = head.double()
    layers, grid = tokens(1, 6, torch.float64), (2, 3)
    gradients = []
    for run in (head, lambda *inputs: published_order(head, *inputs)):
        head.zero_grad()
        run(layers, grid).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in head.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_chunks_change_nothing(head):
    layers = tokens(5, 6)
    with torch.no_grad():
        whole = predict_maps(head, layers, (2, 3))
        parts = predict_maps(head, layers, (2, 3), chunk=2)
        into = PointMap(torch.empty(5, 28, 42, 3), torch.empty(5, 28, 42))
        given = predict_maps(head, layers, (2, 3), chunk=3, into=into)
    assert given.points is into.points
    for maps in (parts, given):
        torch.testing.assert_close(maps.points, whole.points)
        torch.testing.assert_close(maps.confidence, whole.confidence)


@pytest.mark.parametrize("recompute", [False, True])
def test_chunks_and_recomputing_change_no_gradient(head, recompute):
    layers = [layer.requires_grad_() for layer in tokens(3, 6)]
    predict_maps(head, layers, (2, 3)).points.sum().backward()
    wanted = [layer.grad.clone() for layer in layers]
    for layer in layers:
        layer.grad = None
    predict_maps(head, layers, (2, 3), chunk=2, recompute=recompute).points.sum().backward()
    torch.testing.assert_close([layer.grad for layer in layers], wanted)


def test_the_spare_unit_is_frozen_and_unread():
    head = DPTHead(WIDTHS, patch_size=14, features=16, layer_widths=(4, 6, 8, 10), spare_unit=True)
    head(tokens(1, 6), (2, 3)).sum().backward()
    without = {name for name, p in head.named_parameters() if p.grad is None}
    assert without == {name for name, p in head.named_parameters() if not p.requires_grad}
    assert without


def test_hooks_are_start_half_three_quarters_and_end():
    assert [hooked_layers(depth) for depth in (24, 10, 6, 2)] == [
        (0, 12, 18, 24), (0, 5, 7, 10), (0, 3, 4, 6), (0, 1, 1, 2),
    ]  # fmt: skip


def test_a_point_lies_in_the_direction_of_its_raw_vector_at_an_exponential_distance():
    raw = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]])
    points = points_from_raw(raw)
    distance = torch.expm1(torch.tensor(5.0))
    torch.testing.assert_close(
        points[1], torch.stack([torch.tensor(0.0), 0.6 * distance, 0.8 * distance])
    )
    assert torch.equal(points[0], torch.zeros(3))
    assert confidence_from_raw(torch.tensor(-100.0)) == 1.0
