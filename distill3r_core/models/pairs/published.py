"""A pair student one pair after the other, its heads in the published order of operations.

The reference for the fast one: nothing is batched, and all maps are kept.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill3r_core.models.pairs.spec import PATCH
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.models.pairs.view_maps import MapsOfView, assemble_views
from distill3r_core.models.student import HeadName
from distill3r_core.models.tokens.view_groups import group_by_size
from distill3r_core.nn.dpt_reference import published_maps
from distill3r_core.types import Images, PointMap, PointMaps


def published_pairs(
    student: PairStudent,
    images: Images | Sequence[Float[Tensor, "3 _ _"]],
    *,
    head: HeadName = "both",
    head_chunk: int | None = None,
    view_numbers: Int[Tensor, "B N"] | None = None,
) -> PointMaps | list[PointMaps]:
    """The result of `student(images)`, up to rounding.

    Args:
        images: See `Student.forward`.
        head_chunk: Samples that go through a head at once; None: all.
        view_numbers: Not read.
    """
    views = list(images.unbind(1)) if isinstance(images, Tensor) else [one[None] for one in images]
    group_by_size(images, PATCH)  # for its checks
    tokens = [student.encode(view) for view in views]
    grids = [(view.shape[-2] // PATCH, view.shape[-1] // PATCH) for view in views]

    def pair(first: int, second: int, *, both: bool) -> list[PointMap[Tensor]]:
        """The maps of a pair's views; without `both` that of the first alone."""
        layers = student.fuse(tokens[first], tokens[second], (grids[first], grids[second]))
        heads = (student.first_head, student.second_head) if both else (student.first_head,)
        return [
            published_maps(module, side, grids[view], chunk=head_chunk)
            for module, side, view in zip(heads, layers, (first, second), strict=False)
        ]

    others = range(1, len(views))
    straight = [pair(0, other, both=head != "local") for other in others]
    straight = straight or [pair(0, 0, both=False)]
    sureness = torch.stack([maps[0].confidence.mean((1, 2)) for maps in straight])  # (N - 1, B)
    surest, rows = sureness.argmax(0), torch.arange(len(sureness[0]))
    points = torch.stack([maps[0].points for maps in straight])
    confidence = torch.stack([maps[0].confidence for maps in straight])
    own = PointMap(points[surest, rows], confidence[surest, rows])
    # The units of the pairs: by the anchor's distances, from the first pair to every other.
    distance = points.norm(dim=-1).flatten(2)
    scales = (distance[:1] / distance).median(2).values
    scales = scales / scales[surest, rows]
    asked = [MapsOfView(own if head != "local" else None, own if head != "global" else None)]
    for other in others:
        moved = None
        if head != "local":
            seen = straight[other - 1][1]
            moved = PointMap(scales[other - 1][:, None, None, None] * seen.points, seen.confidence)
        local = pair(other, 0, both=False)[0] if head != "global" else None
        asked.append(MapsOfView(moved, local))
    return assemble_views(asked, as_list=not isinstance(images, Tensor))
