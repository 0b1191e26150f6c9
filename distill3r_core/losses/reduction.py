"""How errors of pixels become one number.

`paper` and `released` are the two readings of Distill3R: the paper's equations, and its code.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from distill3r_core.types import Mask

Reduction = Literal["paper", "released"]


def mean_per_sample(error: Float[Tensor, "B N H W"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over each sample's valid pixels, then over the samples. `error` is zero elsewhere."""
    count = mask.sum((1, 2, 3)).clamp(min=1)
    return (error.sum((1, 2, 3)) / count).mean()


def mean_per_view(error: Float[Tensor, "B N H W"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over the valid pixels that view k has in all samples, then over k. `error` is zero
    elsewhere.
    """
    count = mask.sum((0, 2, 3)).clamp(min=1)
    return (error.sum((0, 2, 3)) / count).mean()


def mean_per_pixel(error: Float[Tensor, "B N H W"], mask: Mask) -> Float[Tensor, ""]:
    """Mean over all valid pixels of the batch. `error` is zero elsewhere."""
    return error.sum() / mask.sum().clamp(min=1)
