"""Poses of a model as `infer` gives them: refined by image alignment on its own depth."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from distill3r_core.evaluation.truth import Truth
from distill3r_core.io.images.fit import FittedImage
from distill3r_core.io.images.placed_masks import placed_mask
from distill3r_core.models import Student
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.prediction.forward_pass import view_maps_of
from distill3r_core.reconstruction.refinement.focals import fit_intrinsics
from distill3r_core.reconstruction.refinement.scene import refine_scene
from distill3r_core.types import ImagePlacement, RawMaps

METHOD = "direct image alignment on the maps' own depth"
UNREFINED_RULE = "none: poses as they were predicted"


@dataclass
class RefinedPoses:
    """Refines the poses of predictions, and counts what came of it."""

    views: int = 0
    aligned: int = 0
    seconds: float = 0.0

    def refine(self, truth: Truth, maps: RawMaps, student: Student | None) -> RawMaps:
        """The maps with refined similarities, in the frame of the first camera; as they are where
        a view has no place to begin with, or the model knows the scene.

        Cameras, masks and descriptions of images are found as `infer` finds them.

        Args:
            student: That predicted the maps; None: another model did.
        """
        if maps.scene is not None:  # placed by the scene, not by each other
            return maps
        self.views += len(truth.views)
        similarities = maps.global_from_local
        if len(truth.views) < 2 or similarities is None or not similarities.isfinite().all():
            return maps
        loaded = _views_of(truth)
        solved = solve_cameras(loaded, view_maps_of(maps))
        if len(solved.views) < len(loaded):
            return maps
        views, summary = refine_scene(solved.views, loaded, student)
        self.aligned += sum(summary.aligned)
        self.seconds += summary.seconds
        placed = []
        for view in views:
            assert view.aligned is not None, "maps have local points"
            placed.append(torch.from_numpy(view.aligned.world_from_local))
        found = torch.stack(placed).to(similarities.dtype)
        return dataclasses.replace(maps, points_global=None, global_from_local=found)

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


def _views_of(truth: Truth) -> list[LoadedView]:
    """The views as `infer` loads them, without their truth."""
    views = []
    for index, (name, prepared) in enumerate(zip(truth.view_names, truth.views, strict=True)):
        placement, mask = prepared.placement, None
        # Where images lie in their files is the same with and without COLMAP, which alone reads
        # the files behind validation samples.
        if truth.sources and truth.sources[index].placement is placement:
            source = truth.sources[index].view
            size = (source.image.shape[0], source.image.shape[1])
            if source.mask is not None:
                mask = placed_mask(source.mask, placement).numpy()
        else:
            placement = _unsquashed(truth, index)
            size = (int(placement.box[3]), round(placement.box[2]))
        image = (255 * prepared.image.movedim(0, -1)).round().byte().numpy()
        fitted = FittedImage(image, placement)
        views.append(LoadedView(name, None, None, size, None, fitted, prepared=prepared, mask=mask))
    return views


def _unsquashed(truth: Truth, index: int) -> ImagePlacement:
    """The placement of a cached image in one with square pixels.

    A cache does not keep the shape of the image, which `infer` sees; the rays of its targets do.
    """
    one = slice(index, index + 1)
    K = fit_intrinsics(truth.points[one], truth.mask[one])[0]
    rows, columns = truth.size
    return ImagePlacement((0.0, 0.0, columns * float(K[1, 1] / K[0, 0]), float(rows)), truth.size)
