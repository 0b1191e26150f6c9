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
    depth: Float[np.ndarray, "H W"],
    solved: SolvedImage,
    box: tuple[float, float, float, float] | None = None,
) -> float | None:
    """Depth of a map over COLMAP's, in the median over the points that a view sees.

    Args:
        depth: Along the optical axis, of the same view; 0, negative or not finite where unknown.
        solved: The view as COLMAP placed it.
        box: Left, top, right and bottom, in COLMAP's pixels, of what the map covers; None: the
            whole image.

    Returns:
        None where fewer than `MIN_POINTS` points have a depth.
    """
    rows, columns = depth.shape
    left, top, right, bottom = box or (0.0, 0.0, float(solved.size[1]), float(solved.size[0]))
    column = np.floor((solved.pixels[:, 0] - left) * columns / (right - left)).astype(int)
    row = np.floor((solved.pixels[:, 1] - top) * rows / (bottom - top)).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    known, found = depth[row[inside], column[inside]], solved.depth[inside]
    usable = np.isfinite(known) & (known > 0) & (found > 0)
    if usable.sum() < MIN_POINTS:
        return None
    return float(np.median(known[usable] / found[usable]))


def box_in(
    solved: SolvedImage, size: tuple[int, int], box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """A part of an image in the pixels of the size at which COLMAP saw it.

    Args:
        size: Rows and columns of the image that `box` is a part of.
        box: Left, top, right, bottom.
    """
    y, x = solved.size[0] / size[0], solved.size[1] / size[1]
    left, top, right, bottom = box
    return left * x, top * y, right * x, bottom * y


def scale_of(ratios: Sequence[float]) -> SceneScale | None:
    """The median of the ratios of views, robust against outliers; None where there are none."""
    if not ratios:
        return None
    middle = float(np.median(ratios))
    spread = _NORMAL * float(np.median(np.abs(np.array(ratios) - middle))) / middle
    return SceneScale(middle, spread, len(ratios))
