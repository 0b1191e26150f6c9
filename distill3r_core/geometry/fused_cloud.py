"""How far the points of all views, put together into one cloud, are from their own true points.

Unlike a nearest-neighbor distance this sees a view in the wrong place: each predicted point has
its own true point, that of the same pixel.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.similarity import (
    apply_similarity,
    fit_similarity,
    fit_similarity_in_parts,
)


def fused_error(
    predicted: Float[Tensor, "N H W 3"],
    truth: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
    *,
    predicted_similarities: Float[Tensor, "N 3 4"],
    true_similarities: Float[Tensor, "N 3 4"],
) -> float:
    """Mean distance of all predicted points to their own true points, in the truth's unit.

    Each side is put together by its own similarities; then one least-squares similarity carries
    the predicted cloud onto the true one.

    Args:
        predicted: In the frame of each view.
        truth: Likewise.
        mask: Pixels that count; finite on both sides.
        predicted_similarities: `[sR | t]` of each view into the frame of the predicted cloud.
        true_similarities: The same of the truth.

    Raises:
        GeometryError: The points do not fix a similarity, or some are not finite.
    """
    parts = [
        tuple(
            apply_similarity(similarity.double(), points[counts].double()).float()
            for points, similarity in ((mine, ours), (true, theirs))
        )
        for mine, true, counts, ours, theirs in zip(
            predicted, truth, mask, predicted_similarities, true_similarities, strict=True
        )
    ]
    similarity = fit_similarity_in_parts([(mine, true) for mine, true in parts])
    distances = [
        (apply_similarity(similarity, mine.double()) - true.double()).norm(dim=-1)
        for mine, true in parts
    ]
    return float(torch.cat(distances).mean())


def shape_distances(
    predicted: Float[Tensor, "N H W 3"],
    truth: Float[Tensor, "N H W 3"],
    mask: Bool[Tensor, "N H W"],
) -> Iterator[Float[Tensor, " _M"]]:
    """Distances of each view's points to their own true points after its best similarity.

    It is what the shape of the maps alone leaves of `fused_error`: poses and scales play no part.

    Raises:
        GeometryError: The points of a view do not fix a similarity, or are not finite.
    """
    for mine, true, counts in zip(predicted, truth, mask, strict=True):
        source, target = mine[counts].double(), true[counts].double()
        yield (apply_similarity(fit_similarity(source, target), source) - target).norm(dim=-1)
