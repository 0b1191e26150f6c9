"""Similarities with gradients: the same as without, and never a division by nothing."""

import pytest
import torch

from distill3r_core.geometry.similarity import fit_similarity
from distill3r_core.losses.procrustes import fit_with_gradient


def points(*batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, 3, generator=generator, dtype=torch.float64)


def matrix_of(source: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    found = fit_with_gradient(source, target, mask)
    linear = found.scale[..., None, None] * found.rotation
    return torch.cat([linear, found.offset[..., None]], dim=-1)


@pytest.mark.parametrize("mirrored", [False, True])
def test_they_are_those_of_fit_similarity_and_rotations_even_of_mirrored_points(
    mirrored: bool,
) -> None:
    source = points(2, 5, 40)
    target = source @ torch.linalg.qr(points(3)).Q * 2.5 + 0.3 * points(2, 5, 40, seed=1)
    if mirrored:
        target[..., 0] *= -1
    mask = torch.rand(2, 5, 40, generator=torch.Generator().manual_seed(2)) < 0.7
    spoilt = target.masked_fill(~mask[..., None], torch.nan)
    found = matrix_of(source, spoilt, mask)
    torch.testing.assert_close(found, fit_similarity(source, target, mask.double()))
    assert (torch.linalg.det(found[..., :3]) > 0).all()


def test_gradients_are_those_of_finite_differences_near_equal_spreads_too() -> None:
    mask = torch.ones(2, 12, dtype=torch.bool)
    source, target = points(2, 12).requires_grad_(), points(2, 12, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: matrix_of(x, y, mask), (source, target))
    # The corners of a cube spread alike in all directions: singular vectors have no derivative.
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)
    cube = corners.repeat(1, 1, 1).requires_grad_()
    other = (corners * 1.5 + 1).repeat(1, 1, 1).requires_grad_()
    whole = torch.ones(1, 8, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x, y: matrix_of(x, y, whole), (cube, other))


def test_points_that_fix_no_similarity_give_the_identity_and_no_gradient() -> None:
    source, target = points(4, 10), points(4, 10, seed=1)
    mask = torch.ones(4, 10, dtype=torch.bool)
    mask[0, 2:] = False  # two points
    source[1, :, 1:] = 0  # a line
    target[2] = target[2, :1]  # one place
    source.requires_grad_()
    found = fit_with_gradient(source, target, mask)
    assert found.determined.tolist() == [False, False, False, True]
    eye = torch.eye(3, 4, dtype=torch.float64)
    assert torch.equal(matrix_of(source, target, mask)[0], eye)
    (gradient,) = torch.autograd.grad(
        torch.where(found.determined, found.rotation.sum((-2, -1)) + found.scale, 0.0).sum(),
        [source],
    )
    assert gradient.isfinite().all() and not gradient[:3].any() and gradient[3].any()
    broken = target.clone()
    broken[3, 0, 0] = torch.nan
    assert not fit_with_gradient(source, broken, mask).determined[3]
