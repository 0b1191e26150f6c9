import math

import pytest
import torch

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.similarity import (
    apply_similarity,
    compose,
    fit_similarity,
    invert_similarity,
    reanchor,
    scale_of,
)


def a_similarity(seed: int, *lead: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(*lead, 3, 3, generator=generator)).Q
    turn = turn * torch.det(turn).sign()[..., None, None]
    scale = 0.3 + torch.rand(*lead, 1, 1, generator=generator)
    return torch.cat([scale * turn, torch.randn(*lead, 3, 1, generator=generator)], dim=-1)


def test_the_similarity_that_made_the_target_is_found_again():
    truth, points = a_similarity(0, 4), torch.randn(4, 30, 3)
    found = fit_similarity(points, apply_similarity(truth, points))
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("distance", [0.0, 100.0])
def test_the_similarity_is_found_to_a_billionth_in_float64(distance):
    generator = torch.Generator().manual_seed(5)
    for seed in range(20):
        points = torch.randn(40, 3, generator=generator, dtype=torch.float64) + distance
        drawn = a_similarity(seed).double()
        turn = torch.linalg.svd(drawn[:, :3])  # exact to float64, unlike the one drawn
        truth = torch.cat([2.5 * turn.U @ turn.Vh, drawn[:, 3:]], dim=-1)
        found = fit_similarity(points, apply_similarity(truth, points))
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-9)
        assert torch.det(found[:, :3]) > 0


def test_a_quarter_turn_worked_by_hand():
    source = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    # x -> y, y -> -x, doubled, moved by (1, 0, 0).
    target = torch.tensor([[1.0, 2, 0], [-1, 0, 0], [1, 0, 2], [1, 0, 0]])
    expected = torch.tensor([[0.0, -2, 0, 1], [2, 0, 0, 0], [0, 0, 2, 0]])
    torch.testing.assert_close(fit_similarity(source, target), expected, rtol=0, atol=1e-6)


def test_mirrored_points_get_a_rotation_and_not_a_reflection():
    points = torch.randn(50, 3)
    found = fit_similarity(points, points * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.det(found[:, :3]) > 0


def test_points_of_a_plane_are_enough():
    points = torch.randn(20, 3) * torch.tensor([1.0, 1.0, 0.0])
    truth = a_similarity(3)
    found = fit_similarity(points, apply_similarity(truth, points))
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)


def test_a_pair_of_weight_zero_has_no_say():
    truth, points = a_similarity(1), torch.randn(10, 3)
    target = apply_similarity(truth, points)
    target[3] += 100
    weights = torch.ones(10)
    weights[3] = 0
    torch.testing.assert_close(fit_similarity(points, target, weights), truth, rtol=0, atol=1e-5)


def test_a_double_weight_is_the_pair_twice():
    points, target = torch.randn(6, 3), torch.randn(6, 3)
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1])
    twice = fit_similarity(torch.cat([points, points[:1]]), torch.cat([target, target[:1]]))
    torch.testing.assert_close(fit_similarity(points, target, weights), twice)


@pytest.mark.parametrize(
    "points",
    [
        torch.randn(2, 3),
        torch.ones(10, 3),
        torch.linspace(0, 1, 10)[:, None] * torch.tensor([1.0, 2.0, 3.0]) + 5,
        torch.full((10, 3), math.nan),
    ],
    ids=["two points", "one place", "a line", "NaN"],
)
def test_points_that_determine_nothing_are_refused(points):
    with pytest.raises(GeometryError):
        fit_similarity(points, points.clone())


def test_composing_is_applying_one_after_the_other():
    outer, inner, points = a_similarity(0, 3), a_similarity(1, 3), torch.randn(3, 4, 5, 3)
    torch.testing.assert_close(
        apply_similarity(compose(outer, inner), points),
        apply_similarity(outer, apply_similarity(inner, points)),
        rtol=0,
        atol=1e-5,
    )


def test_a_similarity_and_its_inverse_cancel():
    similarity = a_similarity(5, 3)
    identity = torch.eye(3, 4).expand(3, 3, 4)
    torch.testing.assert_close(
        compose(similarity, invert_similarity(similarity)), identity, rtol=0, atol=1e-5
    )


def test_a_new_anchor_sees_its_own_points_unmoved_and_the_others_where_they_were():
    views, points = a_similarity(7, 4), torch.randn(4, 5, 6, 3)
    moved = reanchor(views, 2)
    assert torch.equal(moved[2], torch.eye(3, 4))
    back = apply_similarity(views[2], apply_similarity(moved, points))
    torch.testing.assert_close(back, apply_similarity(views, points), rtol=0, atol=1e-5)


def test_the_scale_of_a_similarity_is_its_stretch():
    similarity, pair = a_similarity(9), torch.randn(2, 3)
    moved = apply_similarity(similarity, pair)
    stretch = (moved[0] - moved[1]).norm() / (pair[0] - pair[1]).norm()
    torch.testing.assert_close(scale_of(similarity), stretch)
