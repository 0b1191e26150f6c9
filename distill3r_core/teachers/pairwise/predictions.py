"""Pairwise predictions of a sample's views, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PairPredictions:
    """What a pairwise network says of E ordered pairs (i, j) of N views.

    Maps are flat, row by row, and filled up to the largest view's P pixels with a weight of 0.

    Args:
        edges: The pairs.
        sizes: Rows and columns of each view.
        points_i: Points of view i in camera i, in a unit of the pair's own.
        points_j: Points of view j in camera i, in the same unit.
        confidence_i: Confidence of `points_i`, in [1, inf); 0 beyond the view's pixels.
        confidence_j: Confidence of `points_j`, in [1, inf); 0 beyond the view's pixels.
    """

    edges: Int[Tensor, "E 2"]
    sizes: tuple[tuple[int, int], ...]
    points_i: Float[Tensor, "E P 3"]
    points_j: Float[Tensor, "E P 3"]
    confidence_i: Float[Tensor, "E P"]
    confidence_j: Float[Tensor, "E P"]

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.sizes)

    def pixels_of(self, view: int) -> int:
        """Number of pixels of a view."""
        rows, columns = self.sizes[view]
        return rows * columns

    def score(self) -> Float[Tensor, "E"]:
        """How much a pair is trusted: the product of the mean confidences of its two maps."""
        means = [
            confidence.double().sum(1)
            / torch.tensor([self.pixels_of(view) for view in self.edges[:, side].tolist()])
            for side, confidence in enumerate((self.confidence_i, self.confidence_j))
        ]
        return means[0] * means[1]

    def view_confidence(self) -> Float[Tensor, "N P"]:
        """The highest confidence of every pixel over all pairs that its view is in."""
        highest = self.confidence_i.new_zeros(self.views, self.confidence_i.shape[1])
        for side, confidence in enumerate((self.confidence_i, self.confidence_j)):
            index = self.edges[:, side, None].expand_as(confidence).to(highest.device)
            highest.scatter_reduce_(0, index, confidence, "amax")
        return highest


def collect(
    edges: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[int, int]],
    maps: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
    *,
    dtype: torch.dtype = torch.float32,
) -> PairPredictions:
    """Predictions of pairs in one record.

    Args:
        edges: The pairs.
        sizes: Rows and columns of each view.
        maps: For each pair, points of i (H, W, 3), points of j, confidence of i (H, W), of j.
        dtype: What they are kept in.
    """
    largest = max(rows * columns for rows, columns in sizes)
    points = torch.zeros(2, len(edges), largest, 3, dtype=dtype)
    confidence = torch.zeros(2, len(edges), largest, dtype=dtype)
    for index, parts in enumerate(maps):
        for side in (0, 1):
            flat = parts[side].reshape(-1, 3)
            points[side, index, : len(flat)] = flat
            confidence[side, index, : len(flat)] = parts[2 + side].reshape(-1)
    return PairPredictions(
        torch.tensor(edges).reshape(-1, 2), tuple(sizes), *points.unbind(), *confidence.unbind()
    )
