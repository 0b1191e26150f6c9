"""Where predicted maps place their views: the similarity of each view, where it was not given."""

from dataclasses import replace

import torch

from distill3r_core.errors import GeometryError
from distill3r_core.reconstruction.cameras.camera_poses import align_local_map
from distill3r_core.types import PointMap, RawMaps


def with_similarities(maps: RawMaps) -> RawMaps:
    """Maps whose `global_from_local` is known wherever they have global points.

    It is fitted as `infer` does: robustly, weighted by both confidences.

    Returns:
        The maps; the similarity of a view whose points determine none is NaN.
    """
    if maps.global_from_local is not None or maps.points_global is None:
        return maps
    found = []
    for view, world in enumerate(maps.points_global):
        try:
            aligned = align_local_map(
                PointMap(world.float().numpy(), maps.confidence_global[view].float().numpy()),
                PointMap(
                    maps.points_local[view].float().numpy(),
                    maps.confidence_local[view].float().numpy(),
                ),
            )
            found.append(torch.from_numpy(aligned.world_from_local))
        except GeometryError:
            found.append(torch.full((3, 4), torch.nan, dtype=torch.float64))
    return replace(maps, global_from_local=torch.stack(found))
