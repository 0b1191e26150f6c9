"""How published evaluations carry predicted point maps of a sequence onto the truth.

Spann3R and CUT3R normalize both sides by medians; Fast3R aligns local maps by the confident
points of the global ones; Pi3 fits one similarity (`fit_similarity`) to all points that count.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.similarity import apply_similarity, fit_similarity

CONFIDENT = 0.85  # quantile of the confidence of a view, Fast3R
SCALE_RANGE = (1e-3, 1e3)  # of a prediction, Spann3R


@dataclass(frozen=True)
class MedianAlignment:
    """Result of `align_by_medians`; shifts and scales are in the unit of their side."""

    points: Float[Tensor, "N H W 3"]  # predicted points in the world, in the truth's unit
    predicted_shift: float  # median depth
    true_shift: float
    predicted_scale: float  # median distance to the median point
    true_scale: float


def align_by_medians(
    predicted: Float[Tensor, "N H W 3"],
    truth: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
    first_pose: Float[Tensor, "4 4"],
) -> MedianAlignment:
    """Match median depth and median spread in the frame of the first camera (Spann3R, CUT3R).

    All medians are the lower ones of the pixels that count. There is no rotation.

    Args:
        predicted: In the frame of the first camera, in any unit.
        truth: In the world.
        mask: Pixels where the truth is known.
        first_pose: True `world_from_cam` of the first camera.

    Raises:
        GeometryError: No pixel counts.
    """
    if not mask.any():
        raise GeometryError("point maps cannot be aligned: no pixel has a true point")
    pose = first_pose.double()
    mine, true = predicted.double(), _move(invert_rigid(pose), truth.double())
    shifts = [points[mask][:, 2].median() for points in (mine, true)]
    scales = []
    for points in (mine, true):
        counted = points[mask]
        scales.append((counted - counted.median(dim=0).values).norm(dim=-1).median())
    scales[0] = scales[0].clamp(*SCALE_RANGE)
    along = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    # The shift of the truth is added to both sides.
    aligned = (mine - shifts[0] * along) * (scales[1] / scales[0]) + shifts[1] * along
    return MedianAlignment(_move(pose, aligned), *(float(value) for value in (*shifts, *scales)))


def confident_pixels(
    confidence: Float[Tensor, "N H W"], quantile: float = CONFIDENT
) -> Bool[Tensor, "N H W"]:
    """Pixels at or above a quantile of the confidence of all pixels of their view."""
    values = confidence.double().flatten(1)  # (N, H*W)
    return confidence.double() >= values.quantile(quantile, dim=1)[:, None, None]


def align_local_to_global(
    local: Float[Tensor, "N H W 3"],
    predicted: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
    confident: Bool[Tensor, "N H W"],
) -> Float[Tensor, "N H W 3"]:
    """Carry each local map onto the global one by a similarity (Fast3R).

    The similarity is fitted to the confident pixels that count, with fewer than three of them to
    all that count; with fewer than three of these, or where they lie on a line, the map stays as
    it is.

    Args:
        local: In the frame of each view.
        predicted: Global points, in the frame of the first view.
        mask: Pixels where the truth is known.
        confident: `confident_pixels` of the global confidence; all True leaves confidence out.
    """
    moved = local.double().clone()
    for view in range(len(local)):
        chosen = mask[view] & confident[view]
        if chosen.sum() < 3:
            chosen = mask[view]
        try:
            similarity = fit_similarity(
                local[view][chosen].double(), predicted[view][chosen].double()
            )
        except GeometryError:
            continue
        moved[view] = apply_similarity(similarity, local[view].double())
    return moved


def align_by_confidence(
    predicted: Float[Tensor, "N H W 3"],
    truth: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
    confident: Bool[Tensor, "N H W"],
) -> Float[Tensor, "N H W 3"]:
    """Carry a sequence onto the truth by one similarity of its confident pixels (Fast3R).

    Raises:
        GeometryError: The confident pixels that count do not fix a similarity.
    """
    chosen = mask & confident
    similarity = fit_similarity(predicted[chosen].double(), truth[chosen].double())
    return apply_similarity(similarity, predicted.double())


def center_crop(
    maps: Float[Tensor, "N H W *rest"] | Bool[Tensor, "N H W"], half: int
) -> Float[Tensor, "N h w *rest"] | Bool[Tensor, "N h w"]:
    """Rows and columns within `half` of the middle of each view (CUT3R: 112).

    A view with fewer of them keeps them all.
    """
    row, column = maps.shape[1] // 2, maps.shape[2] // 2
    top, left = max(row - half, 0), max(column - half, 0)
    return maps[:, top : row + half, left : column + half]


def _move(pose: Float[Tensor, "4 4"], points: Float[Tensor, "N H W 3"]) -> Tensor:
    return apply_similarity(pose[:3], points)
