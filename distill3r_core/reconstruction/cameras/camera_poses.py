"""The camera of every view from its point maps, in closed form or by PnP, in one world frame."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import GeometryError
from distill3r_core.geometry import pnp, registration
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.similarity import compose
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.cameras.pinholes import (
    ViewIntrinsics,
    intrinsics_of,
    local_intrinsics,
    pinhole_camera,
    points_on_rays,
    shared_focals,
)
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.cameras.scene_focals import scene_focals
from distill3r_core.reconstruction.head_options import PoseSource
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.reconstruction import AlignedMap, PosedView
from distill3r_core.reconstruction.view_maps import (
    Map,
    ViewMaps,
    confident_pixels,
    counted_map,
    counted_pixels,
    finite_pixels,
    undo_transpose,
)
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.system.threads import Pool, ahead, result_of

# Pixels of a view that take part in its pose: more change nothing that can be measured.
_PAIRS = 20_000
# Fewer are faster and worse: with 5000, 2500 and 1000 the rotations of a student of the kitchen
# were off by 12.6, 13.3 and 14.2 degrees in the median.
_PNP_PAIRS = 5_000


@dataclass(frozen=True)
class SolvedCameras:
    """Views whose cameras were found, and the failures of the others."""

    views: tuple[PosedView, ...]
    failed: tuple[Failure, ...]


def solve_cameras(
    loaded: Sequence[LoadedView],
    maps: Sequence[ViewMaps],
    *,
    poses: PoseSource = "similarity",
    compare: bool = False,
    cameras: CameraOptions | None = None,
    seed: int = 0,
    in_scene: bool = False,
    progress: Progress | None = None,
) -> SolvedCameras:
    """Find the camera of every view and bring all views into the frame of the first one's camera.

    Where a view has both maps, its pose is the rigid part of the similarity that aligns its local
    points with its global ones. PnP with RANSAC on the global points can be run beside it where
    pycolmap is installed, and the agreement of the two is kept with the view. Where views have a
    global map alone, poses are PnP's, with the focal length of the first view's global map.

    Args:
        loaded: Views in order; the first is the anchor.
        poses: Which of the two poses is used; "pnp" where there are no local maps.
        compare: Whether PnP is run where its poses are not used.
        cameras: What is known about the cameras; None: each view has a focal length of its own.
        seed: Seed of RANSAC: the same for every view, whatever the number of threads.
        in_scene: Global maps are in the frame of a scene, where the views then stay; one focal
            length is sought for all of them.

    Raises:
        ExtraMissingError: `poses` is "pnp" and pycolmap is not installed.
    """
    progress = progress or Silent()
    if poses == "pnp":
        pnp.require_pycolmap("poses by PnP")
    by_pnp = poses == "pnp" or (compare and pnp.pnp_available())
    if by_pnp:
        pnp.prepare()
    upright = [
        undo_transpose(view, predicted) for view, predicted in zip(loaded, maps, strict=True)
    ]
    bound = pnp.SCENE_BOUND if in_scene else pnp.AgreementBound()
    known = _intrinsics(upright, cameras or CameraOptions(), in_scene=in_scene)

    def place(found: "_ClosedForm | str") -> PosedView | str:
        """The view, or the reason why it has no camera."""
        try:
            if isinstance(found, str):
                return found
            pnp_pose = _pnp_pose(found, bound, seed) if by_pnp else None
            return _place(found, poses, pnp_pose)
        except GeometryError as error:
            return error.message

    progress.begin("cameras", total=len(upright), unit="views")
    views: list[PosedView] = []
    failed: list[Failure] = []
    workers = os.cpu_count() or 1
    with Pool(workers) as pool:
        # PnP runs beside this thread, which goes on with the next closed form: that is torch's,
        # which has threads of its own.
        closed = (
            _closed_form(view, predicted, intrinsics)
            for (view, predicted), intrinsics in zip(upright, known, strict=True)
        )
        begun = ahead(lambda found: pool.submit(place, found), closed, 2 * workers)
        for view, found in zip(loaded, map(result_of, begun), strict=True):
            if isinstance(found, PosedView):
                views.append(found)
            else:
                failed.append(Failure(str(view.path or view.name), f"no camera: {found}"))
            progress.advance()
    return SolvedCameras(tuple(views) if in_scene else _into_first_frame(views), tuple(failed))


def _intrinsics(
    views: Sequence[tuple[LoadedView, ViewMaps]], cameras: CameraOptions, *, in_scene: bool
) -> Iterable[ViewIntrinsics]:
    """K of every view, in order."""
    loaded, first = [view for view, _ in views], views[0][1]
    if all(maps.local_map is not None for _, maps in views):
        return local_intrinsics(loaded, [maps for _, maps in views], cameras)
    if cameras.intrinsics is not None:
        return [ViewIntrinsics(cameras.intrinsics, "given")] * len(views)
    assert first.global_map is not None, "a view without a global map has no place in the world"
    focals = None
    if in_scene:
        maps = [one.global_map for _, one in views if one.global_map is not None]
        focals = scene_focals(loaded, maps)
    focals = focals or shared_focals(loaded, first.global_map)
    return [intrinsics_of(view, focal) for view, focal in zip(loaded, focals, strict=True)]


@dataclass(frozen=True)
class _ClosedForm:
    """What can be found of a view's camera without a search."""

    loaded: LoadedView  # the upright view
    global_map: Map
    aligned: AlignedMap | None  # its local map, aligned with the global one; None: not predicted
    camera: Pinhole  # camera of the full-size image


def _closed_form(view: LoadedView, maps: ViewMaps, known: ViewIntrinsics) -> _ClosedForm | str:
    """The closed form, or the reason why there is none."""
    global_map, local_map = maps.global_map, maps.local_map
    assert global_map is not None, "a view without a global map has no place in the world"
    if not counted_pixels(view, global_map).any():
        return "no point of it is a number"
    camera = pinhole_camera(view, known, maps)
    if local_map is None:
        return _ClosedForm(view, global_map, None, camera)
    predicted = None
    if known.imposed:
        predicted, local_map = local_map, points_on_rays(view, local_map, known.matrix)
    try:
        aligned = align_local_map(counted_map(view, global_map), counted_map(view, local_map))
    except GeometryError as error:
        return error.message
    aligned = dataclasses.replace(aligned, local_map=local_map, predicted=predicted)
    return _ClosedForm(view, global_map, aligned, camera)


def _place(
    found: _ClosedForm, poses: PoseSource, pnp_pose: Float[np.ndarray, "4 4"] | None
) -> PosedView:
    aligned, camera = found.aligned, found.camera
    if pnp_pose is None and (aligned is None or poses == "pnp"):
        raise GeometryError("PnP found no pose that explains its points")
    if aligned is None:
        assert pnp_pose is not None
        return PosedView(found.loaded, found.global_map, None, camera.at(pnp_pose))
    pose = registration.rigid_of(torch.from_numpy(aligned.world_from_local)).numpy()
    agreement = None if pnp_pose is None else _agreement(pose, pnp_pose, aligned)
    if poses == "pnp":
        assert pnp_pose is not None
        pose = pnp_pose
    return PosedView(found.loaded, found.global_map, aligned, camera.at(pose), agreement)


def align_local_map(global_map: Map, local_map: Map) -> AlignedMap:
    """The local map of a view with the similarity that carries it onto the global one.

    Raises:
        GeometryError: The points do not determine a similarity.
    """
    source, target = local_map.points.reshape(-1, 3), global_map.points.reshape(-1, 3)
    c_source, c_target = local_map.confidence.reshape(-1), global_map.confidence.reshape(-1)
    counted = np.flatnonzero(finite_pixels(local_map) & finite_pixels(global_map))
    counted = counted[:: max(1, len(counted) // _PAIRS)]
    # A pair is as good as the worse of its two points: confidences add like resistances.
    a, b = c_source[counted].astype(np.float64), c_target[counted].astype(np.float64)
    similarity = registration.fit_similarity_robust(
        torch.from_numpy(source[counted].astype(np.float64)),
        torch.from_numpy(target[counted].astype(np.float64)),
        torch.from_numpy(a * b / (a + b)),
    )
    return AlignedMap(local_map, similarity.numpy())


def _pnp_pose(
    found: _ClosedForm, bound: pnp.AgreementBound, seed: int
) -> Float[np.ndarray, "4 4"] | None:
    """The pose that PnP finds; None where it finds none."""
    view, intrinsics = found.loaded, found.camera.intrinsics
    global_map = counted_map(view, found.global_map)
    points = global_map.points.reshape(-1, 3)
    pixels = full_size_pixels(view.fitted.placement).reshape(-1, 2)
    counted = np.isfinite(points).all(-1) & confident_pixels(global_map).reshape(-1)
    chosen = np.flatnonzero(counted)
    chosen = chosen[:: max(1, len(chosen) // _PNP_PAIRS)]
    try:
        return pnp.pose_from_points(
            points[chosen], pixels[chosen], intrinsics, view.size, seed=seed, bound=bound
        )
    except GeometryError:
        return None


def _agreement(
    pose: np.ndarray, pnp_pose: np.ndarray, aligned: AlignedMap
) -> tuple[float, float] | None:
    angle = registration.rotation_angle(torch.from_numpy(pose), torch.from_numpy(pnp_pose))
    depth = float(np.nanmedian(aligned.depth))
    distance = np.linalg.norm(pose[:3, 3] - pnp_pose[:3, 3])
    if not np.isfinite(distance) or abs(depth) <= np.finfo(np.float32).tiny:
        return None
    return float(angle), float(distance / abs(depth))


def _into_first_frame(views: Sequence[PosedView]) -> tuple[PosedView, ...]:
    """All views in the frame of the first one's camera, whose pose becomes the identity.

    Global maps are in that frame only as well as the model knows it; here it is exact, and the
    same for every file that is written.
    """
    if not views:
        return ()
    back = invert_rigid(torch.from_numpy(views[0].camera.world_from_cam))
    rotation, translation = back[:3, :3].numpy(), back[:3, 3].numpy()
    moved = []
    for index, view in enumerate(views):
        pose = (back @ torch.from_numpy(view.camera.world_from_cam)).numpy()
        points = (view.global_map.points @ rotation.T + translation).astype(np.float32)
        aligned = view.aligned
        if aligned is not None:
            similarity = compose(back[:3], torch.from_numpy(aligned.world_from_local)).numpy()
            aligned = dataclasses.replace(aligned, world_from_local=similarity)
        moved.append(
            dataclasses.replace(
                view,
                global_map=dataclasses.replace(view.global_map, points=points),
                aligned=aligned,
                camera=dataclasses.replace(
                    view.camera, world_from_cam=np.eye(4) if index == 0 else pose
                ),
            )
        )
    return tuple(moved)
