"""How far the points of all views, put together into one cloud, are from their own true points.

Unlike a nearest-neighbor distance this sees a view in the wrong place: each predicted point has
its own true point, that of the same pixel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.geometry.similarity import (
    apply_similarity,
    fit_similarity,
    fit_similarity_in_parts,
)


def fused_error(
    predicted: Sequence[Float[Tensor, "H W 3"]] | Float[Tensor, "N H W 3"],
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
    clouds = _FusedClouds(predicted, truth, mask, predicted_similarities, true_similarities)
    similarity = fit_similarity_in_parts(clouds)
    total, count = 0.0, 0
    for mine, true in clouds:
        total += float((apply_similarity(similarity, mine) - true).norm(dim=-1).sum())
        count += len(mine)
    return total / count


@dataclass(frozen=True, eq=False)
class _FusedClouds(Sequence[tuple[Tensor, Tensor]]):
    """Predicted and true points of each view, placed anew whenever they are read: both clouds of
    fifty views would fill half a gigabyte.
    """

    predicted: Sequence[Float[Tensor, "H W 3"]] | Float[Tensor, "N H W 3"]
    truth: Float[Tensor, "N H W 3"]
    mask: Bool[Tensor, "N H W"]
    predicted_similarities: Float[Tensor, "N 3 4"]
    true_similarities: Float[Tensor, "N 3 4"]

    def __len__(self) -> int:
        return len(self.predicted)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[Tensor, Tensor]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[Tensor, Tensor] | Sequence[tuple[Tensor, Tensor]]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        counts = self.mask[index]
        ours = self.predicted_similarities[index].double()
        theirs = self.true_similarities[index].double()
        return (
            apply_similarity(ours, self.predicted[index][counts].double()),
            apply_similarity(theirs, self.truth[index][counts].double()),
        )


def shape_distances(
    predicted: Sequence[Float[Tensor, "H W 3"]] | Float[Tensor, "N H W 3"],
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
