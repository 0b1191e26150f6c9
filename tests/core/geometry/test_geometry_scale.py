import math

import pytest
import torch

from distill3r_core.geometry.scale import masked_median, normalize_scale


@pytest.mark.parametrize("per_view", [True, False])
def test_normalize_scale_ignores_the_unit(per_view):
    points, mask = torch.randn(2, 3, 4, 5, 3), torch.rand(2, 3, 4, 5) > 0.2
    torch.testing.assert_close(
        normalize_scale(1000 * points, mask, per_view=per_view),
        normalize_scale(points, mask, per_view=per_view),
    )


def test_one_scale_for_a_sample_keeps_the_relative_sizes_of_its_views():
    points, mask = torch.ones(1, 2, 4, 5, 3), torch.ones(1, 2, 4, 5, dtype=torch.bool)
    points[:, 1] *= 3
    scaled = normalize_scale(points, mask, per_view=False)
    torch.testing.assert_close(scaled[:, 1], 3 * scaled[:, 0])
    scaled = normalize_scale(points, mask, per_view=True)
    torch.testing.assert_close(scaled[:, 1], scaled[:, 0])


def test_nan_outside_the_mask_reaches_neither_values_nor_gradients():
    points = torch.randn(1, 2, 4, 5, 3)
    mask = torch.rand(1, 2, 4, 5) > 0.3
    spoilt = points.masked_fill(~mask[..., None], math.nan).requires_grad_()
    scaled = normalize_scale(spoilt, mask, per_view=True)
    torch.testing.assert_close(scaled, normalize_scale(points, mask, per_view=True))
    scaled.sum().backward()
    assert spoilt.grad is not None
    assert spoilt.grad.isfinite().all()


def test_a_view_without_a_valid_point_is_zero():
    scaled = normalize_scale(
        torch.full((1, 1, 2, 2, 3), math.inf), torch.zeros(1, 1, 2, 2).bool(), per_view=True
    )
    assert torch.equal(scaled, torch.zeros(1, 1, 2, 2, 3))


def test_the_median_counts_only_what_the_mask_names():
    values = torch.tensor([[5.0, math.nan, 1.0, 9.0], [4.0, 2.0, 1.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
    mask = torch.tensor([[True, False, True, True], [True] * 4, [False] * 4])
    median = masked_median(values, mask)
    assert median[:2].tolist() == [5.0, 2.5]
    assert median[2].isnan()
