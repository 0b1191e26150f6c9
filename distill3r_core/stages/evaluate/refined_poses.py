"""Poses of a model as `infer` gives them: refined by image alignment on its own depth."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.evaluation.truth import Truth
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.registration import rigid_of
from distill3r_core.geometry.similarity import compose
from distill3r_core.io.images.fit import FittedImage
from distill3r_core.io.images.placed_masks import placed_mask
from distill3r_core.models import Student
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.prediction.forward_pass import view_maps_of
from distill3r_core.reconstruction.refinement.focals import fit_intrinsics
from distill3r_core.reconstruction.refinement.scene import refine_scene
from distill3r_core.reconstruction.refinement.summary import RefinementSummary
from distill3r_core.types import ImagePlacement, RawMaps

REFINED_RULE = (
    "poses of models by direct image alignment on the maps' own depth, of as many views as the "
    'rows say; the rows "not refined" are without it. Views that a model places in a scene keep '
    "these poses"
)
UNREFINED_RULE = "none: poses as they were predicted"


@dataclass
class RefinedPoses:
    """Refines the poses of a model's predictions, and counts what came of it.

    Args:
        views: That were to be refined.
        without_camera: Of them, those for which no camera could be fitted.
        aligned: Of them, those that images and depth place; the others keep the model's pose.
    """

    views: int = 0
    without_camera: int = 0
    aligned: int = 0
    seconds: float = 0.0

    def refine(self, truth: Truth, maps: RawMaps, student: Student | None) -> RawMaps:
        """The maps with refined similarities, in the frame of the first camera that is known.

        A view for which no camera can be fitted keeps its own similarity, which may be none. Maps
        are as they are where fewer than two views have a camera, or the model knows the scene.
        Cameras, masks and descriptions of images are found as `infer` finds them.

        Args:
            student: That predicted the maps; None: another model did.
        """
        if maps.scene is not None:  # placed by the scene, not by each other
            return maps
        count, similarities = len(truth.views), maps.global_from_local
        self.views += count
        if count < 2 or similarities is None:
            return maps
        loaded = _views_of(truth)
        solved = solve_cameras(loaded, view_maps_of(maps))
        self.without_camera += count - len(solved.views)
        if len(solved.views) < 2:
            return maps
        views, summary = refine_scene(solved.views, loaded, student)
        self.aligned += sum(summary.aligned)
        self.seconds += summary.seconds
        numbers = [int(view.loaded.name) for view in views]
        found = _into_frame(similarities.double(), numbers[0], summary)
        for number, view in zip(numbers, views, strict=True):
            assert view.aligned is not None, "maps have local points"
            found[number] = torch.from_numpy(view.aligned.world_from_local)
        found = found.to(similarities.dtype)
        return dataclasses.replace(maps, points_global=None, global_from_local=found)

    def facts(self) -> dict[str, Any]:
        """What was done, for a result file."""
        return dataclasses.asdict(self)


def _into_frame(
    similarities: Float[Tensor, "N 3 4"], first: int, summary: RefinementSummary
) -> Float[Tensor, "N 3 4"]:
    """Similarities as they were given, in the frame of refined ones.

    Args:
        first: The view whose camera is that frame.
    """
    assert summary.first_pose is not None, "two views were refined"
    moved = rigid_of(similarities[first]) @ torch.from_numpy(summary.first_pose)
    back = invert_rigid(moved)[:3]
    return compose(back.expand_as(similarities), similarities)


def _views_of(truth: Truth) -> list[LoadedView]:
    """The views as `infer` loads them, without their truth; named by their numbers."""
    views = []
    for index, prepared in enumerate(truth.views):
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
        name = str(index)
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
