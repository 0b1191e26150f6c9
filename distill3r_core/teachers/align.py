"""The similarity that carries a view's local map onto the teacher's global one."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.similarity import fit_similarity

FIT_QUANTILE = 0.85  # of the global confidence: the pixels at or above it are fitted on
FEWEST_PAIRS = 3


def align(
    points_local: Float[Tensor, "H W 3"],
    points_global: Float[Tensor, "H W 3"],
    confidence_global: Float[Tensor, "H W"],
    usable: Bool[Tensor, "H W"],
) -> Float[Tensor, "3 4"] | None:
    """Fit `[sR | t]`, unweighted, on the pixels that are surest of their global point.

    Args:
        points_local: In the view's own frame.
        points_global: In the anchor's frame.
        usable: Finite pixels that the teacher calls valid; no others are used.

    Returns:
        The similarity; None where the pixels do not determine one.
    """
    if int(usable.sum()) < FEWEST_PAIRS:
        return None
    level = torch.quantile(confidence_global[usable], FIT_QUANTILE)
    sure = usable & (confidence_global >= level)
    if int(sure.sum()) < FEWEST_PAIRS:
        sure = usable
    try:
        return fit_similarity(points_local[sure], points_global[sure])
    except GeometryError:  # on a line or at one place: the export leaves the view out and counts it
        return None
