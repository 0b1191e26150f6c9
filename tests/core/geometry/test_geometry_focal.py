import pytest
import torch

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.focal import estimate_focal, estimate_focal_median


def seen_with(focal: float, *, center: float = 0.5) -> torch.Tensor:
    k = torch.tensor([[focal, 0.0, 21.0], [0.0, focal, 14.0], [0.0, 0.0, 1.0]])
    depth = torch.rand(2, 28, 42, generator=torch.Generator().manual_seed(0)) + 1
    return unproject(depth, k.expand(2, 3, 3), center=center)


@pytest.mark.parametrize("estimate", [estimate_focal, estimate_focal_median])
@pytest.mark.parametrize("center", [0.0, 0.5])
def test_the_focal_length_of_exact_points_is_found_in_any_unit(estimate, center):
    found = estimate(1000 * seen_with(37.0, center=center), center=center)
    torch.testing.assert_close(found, torch.tensor([37.0, 37.0]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("estimate", [estimate_focal, estimate_focal_median])
def test_a_fifth_of_misplaced_points_hardly_moves_the_focal_length(estimate):
    points = seen_with(37.0)
    wild = torch.rand(2, 28, 42, generator=torch.Generator().manual_seed(1)) < 0.2
    points[wild] = points.roll(9, dims=2)[wild]
    torch.testing.assert_close(estimate(points), torch.tensor([37.0, 37.0]), rtol=0.03, atol=0)


@pytest.mark.parametrize("estimate", [estimate_focal, estimate_focal_median])
def test_pixels_off_the_mask_do_not_vote(estimate):
    points, mask = seen_with(37.0), torch.ones(2, 28, 42, dtype=torch.bool)
    points[:, :20], mask[:, :20] = torch.nan, False
    torch.testing.assert_close(estimate(points, mask), torch.tensor([37.0, 37.0]))


@pytest.mark.parametrize("estimate", [estimate_focal, estimate_focal_median])
def test_no_vote_is_an_error_and_not_a_number(estimate):
    with pytest.raises(GeometryError):
        estimate(seen_with(37.0), torch.zeros(2, 28, 42, dtype=torch.bool))
