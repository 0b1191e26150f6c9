"""The points of cached samples in the world that their source's poses are in."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import CacheError
from distill3r_core.geometry.similarity import apply_similarity, compose, scale_of
from distill3r_core.types import TeacherTargets


def world_from_anchor(cache: CacheUnion, name: str) -> Float[Tensor, "3 4"] | None:
    """The similarity that carries a sample's anchor into the world, float64; None: not known.

    The world has meters where the poses do.

    Raises:
        CacheError: What is stored is no similarity.
    """
    rows = cache.detail(name).get("world_from_anchor")
    if rows is None:
        return None
    message = f"{cache.place(name)[0].cache.path}: world_from_anchor of {name} is no similarity"
    try:
        found = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CacheError(message) from error
    if found.shape != (3, 4) or not found.isfinite().all() or not scale_of(found) > 0:
        raise CacheError(message)
    return found


def points_in_world(
    targets: TeacherTargets, world: Float[Tensor, "3 4"]
) -> Float[Tensor, "N H W 3"]:
    """The teacher's points of a sample's views in the world, float64; anything outside the mask.

    Args:
        targets: As they were cached, with the cached anchor.
        world: `world_from_anchor` of the sample.
    """
    if targets.stored_points_global is not None:
        return apply_similarity(world, targets.stored_points_global.double())
    local = targets.global_from_local.double()
    return apply_similarity(compose(world.expand_as(local), local), targets.points_local.double())
