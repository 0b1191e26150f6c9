"""Scale, and scale and shift, that carry predicted depth onto the truth, as benchmarks fit them.

All functions take the pixels that count, in any unit, and compute in float64. Benchmarks differ:
SpatialBench takes the median with the mean of the two middle values, CUT3R and Pi3 the lower one
of the two; CUT3R's and Pi3's "scale & shift" stops after 1000 small steps, far from the optimum.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from torch import Tensor

from distill3r_core.errors import GeometryError

L1_ROUNDS = 10
L1_LEAST_SCALE = 1e-3
ADAM_STEPS = 1000
ADAM_RATE = 1e-4
_TINY = 1e-8


def lower_median_ratio(predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"]) -> float:
    """Lower median of the truth over that of the prediction (CUT3R; Pi3 names it "scale").

    Returns:
        NaN where the median of the prediction is not above 0: published code turns depth behind
        the camera about there, and maps that are all behind it would be perfect.

    Raises:
        GeometryError: No pixel counts.
    """
    d, g = _pixels(predicted, truth)
    # torch takes the lower of the two middle values.
    return _ratio(float(g.median()), float(d.median()))


def median_ratio(predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"]) -> float:
    """Median of the truth over that of the prediction, zeros and negatives included (SpatialBench).

    Returns:
        NaN where that of the prediction is below 0, as `lower_median_ratio`.

    Raises:
        GeometryError: No pixel counts.
    """
    d, g = _pixels(predicted, truth)
    return _ratio(float(np.median(g.numpy())), float(np.median(d.numpy())) + _TINY)


def _ratio(truth: float, predicted: float) -> float:
    return truth / predicted if predicted > 0 else float("nan")


def l1_scale(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"], *, rounds: int = L1_ROUNDS
) -> float:
    """The scale s of a few rounds of reweighted least squares towards min sum |s d - g| (CUT3R).

    It starts at the ratio of means, and has in general not converged: weights of pixels that fit
    exactly reach 1e8. At least 1e-3.

    Raises:
        GeometryError: No pixel counts.
    """
    d, g = _pixels(predicted, truth)
    scale = g.mean() / d.mean()
    for _ in range(rounds):
        weights = 1 / ((scale * d - g).abs() + _TINY)
        scale = (weights * d * g).sum() / (weights * d * d).sum()
    return float(scale.clamp(min=L1_LEAST_SCALE))


def l1_scale_shift(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"], *, steps: int = ADAM_STEPS
) -> tuple[float, float]:
    """Scale s and shift t of 1000 steps of Adam on sum |s d + t - g| (CUT3R, Pi3).

    It starts at the ratio of lower medians and no shift. As each step moves a value by about the
    learning rate, neither moves by much more than 0.1: published figures depend on it.

    Raises:
        GeometryError: No pixel counts.
    """
    d, g = _pixels(predicted, truth)
    scale = (g.median() / d.median()).requires_grad_()
    shift = torch.zeros_like(scale, requires_grad=True)
    optimizer = torch.optim.Adam([scale, shift], lr=ADAM_RATE)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            (scale * d + shift - g).abs().sum().backward()
            optimizer.step()
    return scale.item(), shift.item()


def least_squares_scale_shift(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"]
) -> tuple[float, float]:
    """Scale s and shift t that minimize sum (s d + t - g)^2.

    Of constant depth, which fixes neither, those of least norm.

    Raises:
        GeometryError: No pixel counts, or some are not finite.
    """
    d, g = _pixels(predicted, truth, finite=True)
    columns = np.stack([d.numpy(), np.ones(len(d))], axis=1)
    scale, shift = np.linalg.lstsq(columns, g.numpy(), rcond=None)[0]
    return float(scale), float(shift)


def relative_l1_scale(predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"]) -> float:
    """The scale s that minimizes sum |s d - g| / g exactly: a weighted median (MoGe).

    Args:
        predicted: Greater than 0.

    Raises:
        GeometryError: No pixel counts, or some are not finite.
    """
    d, g = _pixels(predicted, truth, finite=True)
    ratios, order = (g / d).sort()
    total = (d / g)[order].cumsum(0)
    return float(ratios[torch.searchsorted(total, total[-1:] / 2)])


def relative_l1_scale_shift(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"]
) -> tuple[float, float]:
    """Scale s and shift t that minimize sum |s d + t - g| / g exactly (MoGe), by a linear program.

    Raises:
        GeometryError: No pixel counts, or some are not finite.
    """
    d, g = (values.numpy() for values in _pixels(predicted, truth, finite=True))
    count = len(d)
    # s d / g + t / g - 1 = above - below, both at least 0: the sum of both is minimized.
    eye = np.eye(count)
    equations = np.concatenate([(d / g)[:, None], (1 / g)[:, None], -eye, eye], axis=1)
    found = linprog(
        c=np.concatenate([[0, 0], np.ones(2 * count)]),
        A_eq=equations,
        b_eq=np.ones(count),
        bounds=[(None, None)] * 2 + [(0, None)] * (2 * count),
    )
    return float(found.x[0]), float(found.x[1])


def align_disparity(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"]
) -> tuple[Float[Tensor, " P"], tuple[float, float]]:
    """Depth after the least-squares scale and shift of disparity 1/d to 1/g (MoGe).

    Args:
        predicted: Greater than 0.

    Returns:
        Aligned depth, not greater than the largest true depth, and the scale and shift.

    Raises:
        GeometryError: No pixel counts, or some are not finite.
    """
    d, g = _pixels(predicted, truth, finite=True)
    scale, shift = least_squares_scale_shift(1 / d, 1 / g)
    return 1 / (scale / d + shift).clamp(min=float(1 / g.max())), (scale, shift)


def _pixels(
    predicted: Float[Tensor, " P"], truth: Float[Tensor, " P"], *, finite: bool = False
) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """Both sides in float64 on the CPU, or a refusal."""
    d, g = (values.detach().cpu().double() for values in (predicted, truth))
    if len(g) == 0:
        raise GeometryError("depth cannot be aligned: no pixel has a true depth")
    if finite and not (d.isfinite().all() and g.isfinite().all()):
        raise GeometryError("depth cannot be aligned: some values are not finite")
    return d, g
