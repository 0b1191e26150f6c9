"""Refine the poses of a model's raw maps."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.geometry.registration import fit_similarity_robust
from distill3r_core.reconstruction.refinement.refine import Refinement, refine_poses
from distill3r_core.types import RawMaps

_PAIRS = 20_000  # of points of a view that take part in the fit of its similarity


def refine_maps(
    images: Float[Tensor, "N 3 H W"],
    maps: RawMaps,
    *,
    features: Float[Tensor, "N D"] | None = None,
) -> tuple[RawMaps, Refinement]:
    """The maps with refined `global_from_local`, which says all about their global points.

    Args:
        images: RGB in [0, 1], at the size of the maps, one size for all.
        maps: Their `global_from_local` is fitted to the global points where it is not given.
        features: See `refine_poses`.

    Raises:
        GeometryError: The points of a view do not determine a similarity.
    """
    points = torch.stack(list(maps.points_local))
    valid = None if maps.valid_mask is None else torch.stack(list(maps.valid_mask))
    given = maps.global_from_local
    if given is None:
        assert maps.points_global is not None, "maps without similarities have global points"
        given = torch.stack([_similarity(maps, index) for index in range(len(points))])
    found = refine_poses(
        images, points, given, valid_mask=valid, intrinsics=maps.intrinsics, features=features,
        fixed_focal=maps.intrinsics is not None,
    )  # fmt: skip
    similarity = found.world_from_local
    return (
        dataclasses.replace(maps, points_global=None, global_from_local=similarity),
        found,
    )


def _similarity(maps: RawMaps, index: int) -> Float[Tensor, "3 4"]:
    assert maps.points_global is not None
    local, world = maps.points_local[index], maps.points_global[index]
    counted = local.isfinite().all(-1) & world.isfinite().all(-1)
    if maps.valid_mask is not None:
        counted &= maps.valid_mask[index]
    chosen = counted.flatten().nonzero()[:, 0]
    chosen = chosen[:: max(1, len(chosen) // _PAIRS)]
    a = maps.confidence_local[index].flatten()[chosen].double()
    b = maps.confidence_global[index].flatten()[chosen].double()
    return fit_similarity_robust(
        local.reshape(-1, 3)[chosen].double(),
        world.reshape(-1, 3)[chosen].double(),
        a * b / (a + b),
    )
