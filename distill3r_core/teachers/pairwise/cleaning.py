"""Take confidence from points that stand in front of what another view sees."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.geometry.cameras import pixel_grid
from distill3r_core.teachers.pairwise.optimization import Aligned

CLEARANCE = 1e-3  # share of a view's depth by which a point must stand in front of it


def clean_confidence(
    aligned: Aligned,
    confidence: Float[Tensor, "N P"],
    sizes: tuple[tuple[int, int], ...],
    *,
    center: float = 0.5,
) -> Float[Tensor, "N P"]:
    """Confidence, 0 where a more confident view sees through the point.

    Args:
        aligned: Views in one world.
        confidence: Confidence of each view's pixels, flat.
        sizes: Rows and columns of each view.
        center: Where in its pixel a point was seen.
    """
    result = confidence.clone()
    points = []  # of each view in the world, flat
    for view, (rows, columns) in enumerate(sizes):
        grid = pixel_grid((rows, columns), center=center) - torch.tensor([columns / 2, rows / 2])
        depth = aligned.depth[view, : rows * columns, None]
        local = torch.cat([grid.reshape(-1, 2) / aligned.focals[view] * depth, depth], dim=1)
        pose = aligned.world_from_cam[view]
        points.append(local @ pose[:3, :3].T + pose[:3, 3])
    for view, size in enumerate(sizes):
        for other, (rows, columns) in enumerate(sizes):
            if other == view:
                continue
            pose = aligned.world_from_cam[other]
            local = (points[view] - pose[:3, 3]) @ pose[:3, :3]
            middle = local.new_tensor([columns / 2, rows / 2])
            pixels = aligned.focals[other] * local[:, :2] / local[:, 2:] + middle
            column, row = (pixels - center).round().nan_to_num(-1.0).long().unbind(-1)
            inside = (local[:, 2] > 0) & (column >= 0) & (column < columns)
            inside &= (row >= 0) & (row < rows)
            index = torch.where(inside, row * columns + column, 0)
            depth, sure = aligned.depth[other, index], result[other, index]
            mine = result[view, : size[0] * size[1]]
            hidden = inside & (local[:, 2] < (1 - CLEARANCE) * depth) & (mine < sure)
            result[view, : len(mine)] = torch.where(hidden, 0.0, mine)
    return result
