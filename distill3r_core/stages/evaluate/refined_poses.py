"""Poses of a model as `infer` gives them: refined by image alignment on its own depth."""

from dataclasses import dataclass
from typing import Any

import torch

from distill3r_core.errors import GeometryError
from distill3r_core.evaluation.truth import Truth
from distill3r_core.reconstruction.refinement.focals import fit_intrinsics
from distill3r_core.reconstruction.refinement.maps import refine_maps
from distill3r_core.types import RawMaps

METHOD = "direct image alignment on the maps' own depth"
UNREFINED_RULE = "none: poses as they were predicted"


@dataclass
class RefinedPoses:
    """Refines the poses of predictions, and counts what came of it."""

    views: int = 0
    aligned: int = 0
    seconds: float = 0.0

    def refine(self, truth: Truth, maps: RawMaps) -> RawMaps:
        """The maps with refined similarities; as they are where a view has none to begin with, or
        the model knows the scene.
        """
        if maps.scene is not None:  # placed by the scene, not by each other
            return maps
        self.views += len(truth.views)
        similarities = maps.global_from_local
        if len(truth.views) < 2 or similarities is None or not similarities.isfinite().all():
            return maps
        points = torch.stack(list(maps.points_local))
        mask = points.isfinite().all(-1) & (points[..., 2] > 0)
        try:
            focal = fit_intrinsics(points, mask)[:, :2, :2].diagonal(dim1=-2, dim2=-1)
        except GeometryError:
            return maps
        if not (focal.isfinite() & (focal > 0)).all():
            return maps  # mirrored points, of a student that learned nothing: no camera saw them
        images = torch.stack([view.image for view in truth.views])
        try:
            refined, found = refine_maps(images, maps)
        except GeometryError:  # maps without one point that could be aligned
            return maps
        self.aligned += int(found.aligned.sum())
        self.seconds += found.seconds
        return refined

    @property
    def rule(self) -> str:
        """What is done, in words, for the rules of a result."""
        return f'poses of models by {METHOD}; the rows "not refined" are without it'

    def facts(self) -> dict[str, Any]:
        """What was done, for a result file."""
        return {
            "method": METHOD,
            "views": self.views,
            "aligned": self.aligned,
            "seconds": self.seconds,
        }
