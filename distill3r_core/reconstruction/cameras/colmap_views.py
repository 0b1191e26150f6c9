"""Views at the poses that COLMAP finds: each local map is carried into COLMAP's frame."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from distill3r_core.errors import NothingUsableError
from distill3r_core.geometry.metric_scale import box_in, depth_ratio
from distill3r_core.geometry.structure_from_motion import (
    SolvedImage,
    SolverCamera,
    resized_intrinsics,
    solve_images,
)
from distill3r_core.io.images.resize import resize_image
from distill3r_core.prediction import phases
from distill3r_core.reconstruction.cameras.moved_views import moved_views
from distill3r_core.reconstruction.cameras.pinholes import points_on_rays
from distill3r_core.reconstruction.loaded_views import full_size_images
from distill3r_core.reconstruction.reconstruction import PosedView
from distill3r_core.report import Failure, Progress

UNPLACED = "COLMAP could not place it among the other images"
_GIVEN = "given"  # where the user has named the intrinsics
_FOCAL_SOURCE = "colmap"


def place_by_colmap(
    views: Sequence[PosedView], progress: Progress
) -> tuple[tuple[PosedView, ...], tuple[Failure, ...]]:
    """Views at COLMAP's poses, in the frame of the first one that it placed.

    A view's scale is the median, over the points that it sees, of COLMAP's depth over that of its
    local map; a view that sees too few has the median scale of the others. All of it is then
    divided by that median: a length of 1 stays what it is in the local maps. Intrinsics that
    COLMAP has estimated replace the view's own, and its points move to the rays of that camera.

    Args:
        views: With local maps, in order; their images are read again.
        progress: Reports features, pairs and placed images.

    Returns:
        The views that COLMAP placed, in order, and the failures of the others.

    Raises:
        ExtraMissingError: pycolmap is not installed.
        ImageError: An image has changed since it was loaded.
        NothingUsableError: COLMAP placed no two views, or sees no point of any map.
    """
    order: list[int] = []  # a video is read in one go, which may be another order
    placed = solve_images(_images(views, order), ordered=True, on_step=phases(progress, "COLMAP"))
    solved = {order[number]: image for number, image in placed.items()}
    if len(solved) < 2:
        raise NothingUsableError(
            f"COLMAP placed {len(solved)} of {len(views)} views",
            hint="images must overlap and have texture; --poses similarity takes the model's poses",
        )
    found = {index: _with_camera(views[index], solved[index]) for index in sorted(solved)}
    scales = {index: _scale(view, solved[index]) for index, view in found.items()}
    known = [scale for scale in scales.values() if scale is not None]
    if not known:
        raise NothingUsableError("the local maps have no depth where COLMAP has points")
    middle = float(np.median(known))
    similarities = []
    for index in found:
        pose = solved[index].world_from_cam
        scale = scales[index] or middle
        similarity = np.concatenate([scale * pose[:3, :3], pose[:3, 3:]], axis=1) / middle
        similarities.append(torch.from_numpy(similarity))
    failed = tuple(
        Failure(str(view.loaded.path or view.loaded.name), f"no camera: {UNPLACED}")
        for index, view in enumerate(views)
        if index not in found
    )
    return moved_views(list(found.values()), torch.stack(similarities)), failed


def _images(
    views: Sequence[PosedView], order: list[int]
) -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], SolverCamera]]:
    by_name = {view.loaded.name: index for index, view in enumerate(views)}
    for loaded, pixels in full_size_images([view.loaded for view in views]):
        order.append(by_name[loaded.name])
        known = views[order[-1]].camera
        camera = SolverCamera.of_image(
            loaded.size,
            intrinsics=known.intrinsics if known.facts["focal_source"] == _GIVEN else None,
            focal=loaded.exif_focal,
        )
        small = pixels if camera.size == loaded.size else resize_image(pixels, camera.size)
        yield small, camera


def _with_camera(view: PosedView, solved: SolvedImage) -> PosedView:
    """The view with the camera that COLMAP has estimated, and its points on that one's rays."""
    if view.camera.facts["focal_source"] == _GIVEN:
        return view
    assert view.aligned is not None, "only views with local maps can be placed"
    intrinsics = resized_intrinsics(solved.intrinsics, solved.size, view.loaded.size)
    facts = {**view.camera.facts, "focal_source": _FOCAL_SOURCE}
    return dataclasses.replace(
        view,
        camera=dataclasses.replace(view.camera, intrinsics=intrinsics, facts=facts),
        aligned=dataclasses.replace(
            view.aligned,
            local_map=points_on_rays(view.loaded, view.aligned.local_map, intrinsics),
            predicted=view.aligned.predicted or view.aligned.local_map,
        ),
    )


def _scale(view: PosedView, solved: SolvedImage) -> float | None:
    """COLMAP's depth over the local map's; None where few points tell."""
    assert view.aligned is not None
    depth = np.where(view.valid_mask, view.aligned.local_map.points[..., 2], 0)
    box = box_in(solved, view.loaded.size, view.loaded.fitted.placement.box)
    ratio = depth_ratio(depth, solved, box)
    return None if ratio is None else 1 / ratio
