"""The unit of COLMAP's world, from depth of its images that is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from distill3r_core.geometry.structure_from_motion import SolvedImage

MIN_POINTS = 8  # of a view, for its ratio
_NORMAL = 1.4826  # standard deviations of a normal distribution in its median absolute deviation


@dataclass(frozen=True)
class SceneScale:
    """The scale of a scene.

    Args:
        scale: Factor of COLMAP's lengths.
        spread: Relative spread of the views' own factors: their median absolute deviation, as a
            standard deviation, over their median.
        views: Number of views that tell.
    """

    scale: float
    spread: float
    views: int


def depth_ratio(
    depth: Float[np.ndarray, "H W"], solved: SolvedImage, size: tuple[float, float] | None = None
) -> float | None:
    """Depth of a map over COLMAP's, in the median over the points that a view sees.

    Args:
        depth: Along the optical axis, of the same view; 0, negative or not finite where unknown.
        solved: The view as COLMAP placed it.
        size: Height and width, in COLMAP's pixels, of what the map covers; None: the whole image.

    Returns:
        None where fewer than `MIN_POINTS` points have a depth.
    """
    rows, columns = depth.shape
    size = size or solved.size
    column = np.floor(solved.pixels[:, 0] * columns / size[1]).astype(int)
    row = np.floor(solved.pixels[:, 1] * rows / size[0]).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    known, found = depth[row[inside], column[inside]], solved.depth[inside]
    usable = np.isfinite(known) & (known > 0) & (found > 0)
    if usable.sum() < MIN_POINTS:
        return None
    return float(np.median(known[usable] / found[usable]))


def scale_of(ratios: Sequence[float]) -> SceneScale | None:
    """The median of the ratios of views, robust against outliers; None where there are none."""
    if not ratios:
        return None
    middle = float(np.median(ratios))
    spread = _NORMAL * float(np.median(np.abs(np.array(ratios) - middle))) / middle
    return SceneScale(middle, spread, len(ratios))
