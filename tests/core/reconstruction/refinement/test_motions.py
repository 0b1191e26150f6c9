import torch

from distill3r_core.reconstruction.refinement.motions import (
    adjoint,
    chain,
    exponential,
    inverse,
    logarithm,
    turn_degrees,
)

TWISTS = torch.tensor(
    [[0.0] * 6, [1e-7, 0, 0, 1, 2, 3], [0.3, -0.2, 0.5, -1, 0.5, 2], [0, 2.9, 0.4, 0.1, 0, -4]],
    dtype=torch.float64,
)


def test_the_logarithm_undoes_the_exponential():
    torch.testing.assert_close(logarithm(exponential(TWISTS)), TWISTS, rtol=1e-9, atol=1e-9)
    series = torch.zeros(3, 4, 4, dtype=torch.float64)
    series[:, 0, 1], series[:, 1, 0] = -TWISTS[1:, 2], TWISTS[1:, 2]
    series[:, 0, 2], series[:, 2, 0] = TWISTS[1:, 1], -TWISTS[1:, 1]
    series[:, 1, 2], series[:, 2, 1] = -TWISTS[1:, 0], TWISTS[1:, 0]
    series[:, :3, 3] = TWISTS[1:, 3:]
    expected = torch.linalg.matrix_exp(series)[:, :3]
    torch.testing.assert_close(exponential(TWISTS[1:]), expected, rtol=1e-9, atol=1e-9)


def test_a_motion_passes_a_twist_by_its_adjoint():
    motion = exponential(TWISTS.flip(0))
    carried = (adjoint(motion) @ TWISTS[..., None])[..., 0]
    torch.testing.assert_close(
        chain(motion, exponential(TWISTS)), chain(exponential(carried), motion)
    )


def test_a_motion_and_its_inverse_stand_still():
    motion = exponential(TWISTS)
    still = torch.eye(3, 4, dtype=torch.float64).expand_as(motion)
    torch.testing.assert_close(chain(inverse(motion), motion), still)
    quarter = exponential(torch.tensor([0, 0, torch.pi / 2, 1, 1, 1]))
    torch.testing.assert_close(turn_degrees(quarter), torch.tensor(90.0))
