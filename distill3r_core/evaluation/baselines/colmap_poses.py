"""COLMAP's poses as a baseline: what classical matching makes of the same images."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.baselines.colmap_solver import ColmapSolver
from distill3r_core.evaluation.predictions import Unpredicted, Unscaled
from distill3r_core.evaluation.truth import SourceView, Truth
from distill3r_core.geometry.metric_scale import box_in, depth_ratio
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.types import RawMaps


def colmap_poses(
    truth: Truth, maps: RawMaps, colmap: ColmapSolver | None
) -> Float[Tensor, "N 3 4"] | Unscaled[Float[Tensor, "N 3 4"]] | Unpredicted:
    """Similarities that place maps in COLMAP's world, each scaled by the median of its points.

    A view that sees too few points has the median scale of the others.

    Returns:
        NaN for a view that COLMAP does not place; poses alone where no view sees enough points; or
        why COLMAP places none.
    """
    assert colmap is not None, "the baseline is left out without it"
    solved = colmap.solve(truth)
    if isinstance(solved, Unpredicted):
        return solved
    scales = {
        view: _scale(maps.points_local[view], truth.sources[view], one)
        for view, one in solved.items()
    }
    known = [scale for scale in scales.values() if scale is not None]
    middle = float(np.median(known)) if known else 1.0
    found = torch.full((len(truth.sources), 3, 4), torch.nan, dtype=torch.float64)
    for view, one in solved.items():
        pose = torch.from_numpy(one.world_from_cam)
        found[view] = torch.cat([(scales[view] or middle) * pose[:3, :3], pose[:3, 3:]], dim=1)
    if not known:
        return Unscaled(found, "the model's maps have no depth where COLMAP has points")
    return found


def _scale(points: Float[Tensor, "H W 3"], source: SourceView, solved: SolvedImage) -> float | None:
    """COLMAP's depth over the map's, in the median; None where few points tell."""
    placement, rows, columns = source.placement, *source.view.image.shape[:2]
    depth = points[..., 2].double().numpy()
    if placement.transposed:
        depth = depth.T
    ratio = depth_ratio(depth, solved, box_in(solved, (rows, columns), placement.box))
    return None if ratio is None else 1 / ratio
