"""Poses from point maps: a place for every view in one world frame."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import GeometryError
from distill3r_core.geometry import pnp, registration
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.similarity import compose
from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.reconstruction.head_options import PoseSource
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.pinholes import (
    Focal,
    full_pixels,
    own_focal,
    pinhole_of,
    shared_focals,
)
from distill3r_core.reconstruction.reconstruction import CarriedMap, SolvedView
from distill3r_core.reconstruction.view_maps import Maps, ViewMap, turned_back
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.threads import Pool, ahead, result_of

# Pixels of a view that take part in its pose: more change nothing that can be measured.
_PAIRS = 20_000
# Fewer are faster and worse: with 5000, 2500 and 1000 the rotations of a student of the kitchen
# were off by 12.6, 13.3 and 14.2 degrees in the median.
_PNP_PAIRS = 5_000


@dataclass(frozen=True)
class Solved:
    """Views with cameras, and those that have none."""

    views: tuple[SolvedView, ...]
    failed: tuple[Failure, ...]


def solve(
    loaded: Sequence[LoadedView],
    maps: Sequence[Maps],
    *,
    poses: PoseSource = "similarity",
    compare: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Solved:
    """Find the camera of every view and bring all into the frame of the first one's.

    Where both heads were run a pose is the rigid part of the similarity that carries the view's
    local points to its global ones. PnP with RANSAC on the global points is run beside it where
    pycolmap is installed, and the agreement of the two is kept with the view. Where the global
    head was run alone, poses are PnP's, with the focal length of the first view's global map.

    Args:
        loaded: The pictures.
        maps: What the student says about them, as predicted; the global map always.
        poses: Which of the two poses is used; "pnp" where there are no local maps.
        compare: Whether PnP is run where its poses are not used.
        seed: Of RANSAC: the same for every view, whatever the number of threads.
        progress: Reports every view.

    Raises:
        ExtraMissingError: `poses` is "pnp" and pycolmap is not installed.
    """
    progress = progress or Silent()
    if poses == "pnp":
        pnp.require_pnp()
    by_pnp = poses == "pnp" or (compare and pnp.pnp_available())
    if by_pnp:
        pnp.prepare()
    seen = [turned_back(picture, said) for picture, said in zip(loaded, maps, strict=True)]
    rules = _Rules(poses, by_pnp, seed)

    def place(found: "_ClosedForm | str") -> SolvedView | str:
        """The view, or why it has no camera."""
        try:
            return found if isinstance(found, str) else _place(found, rules)
        except GeometryError as error:
            return error.message

    progress.begin("cameras", total=len(seen), unit="views")
    views: list[SolvedView] = []
    failed: list[Failure] = []
    workers = os.cpu_count() or 1
    with Pool(workers) as pool:
        # PnP runs beside this thread, which goes on with the next closed form: that is torch's,
        # which has threads of its own.
        known = (_closed_form(*view) for view in _with_focals(seen))
        begun = ahead(lambda found: pool.submit(place, found), known, 2 * workers)
        for picture, found in zip(loaded, map(result_of, begun), strict=True):
            if isinstance(found, SolvedView):
                views.append(found)
            else:
                failed.append(Failure(str(picture.path or picture.name), f"no camera: {found}"))
            progress.advance()
    return Solved(_into_first_frame(views), tuple(failed))


@dataclass(frozen=True)
class _Rules:
    """How poses are found: by which way, whether PnP is run, and its seed."""

    poses: PoseSource
    by_pnp: bool
    seed: int


def _with_focals(
    seen: Sequence[tuple[LoadedView, Maps]],
) -> list[tuple[LoadedView, Maps, Focal | None]]:
    """Views with a focal length that they share; None where each has its own by its local map."""
    first = seen[0][1]
    if first.local is not None or first.in_world is None:
        return [(picture, maps, None) for picture, maps in seen]
    focals = shared_focals([picture for picture, _ in seen], first.in_world)
    return [(picture, maps, focal) for (picture, maps), focal in zip(seen, focals, strict=True)]


@dataclass(frozen=True)
class _ClosedForm:
    """What of a view's camera needs no search.

    Args:
        picture: Upright.
        in_world: By the global head.
        local: By the local head, and the similarity that carries it into the world; None: that
            head was not run.
        camera: Of the full-size picture.
    """

    picture: LoadedView
    in_world: ViewMap
    local: CarriedMap | None
    camera: Pinhole


def _closed_form(picture: LoadedView, maps: Maps, shared: Focal | None) -> _ClosedForm | str:
    """The closed form, or why there is none."""
    in_world, local = maps.in_world, maps.local
    assert in_world is not None, "a view without a global map has no place in the world"
    if not in_world.finite.any():
        return "no point of it is a number"
    if local is None:
        assert shared is not None, "nothing else tells its focal length"
        return _ClosedForm(picture, in_world, None, pinhole_of(picture, shared, maps))
    try:
        carried = CarriedMap(local, _similarity(in_world, local).numpy())
    except GeometryError as error:
        return error.message
    camera = pinhole_of(picture, own_focal(picture, local), maps)
    return _ClosedForm(picture, in_world, carried, camera)


def _place(found: _ClosedForm, rules: _Rules) -> SolvedView:
    picture, in_world, local, camera = found.picture, found.in_world, found.local, found.camera
    other = _pnp(picture, in_world, camera, rules.seed) if rules.by_pnp else None
    if local is None:
        return SolvedView(picture, in_world, None, camera.at(_found(other)))
    pose = registration.rigid_of(torch.from_numpy(local.world_from_local)).numpy()
    agreement = None if other is None else _agreement(pose, other, local)
    placed = camera.at(_found(other) if rules.poses == "pnp" else pose)
    return SolvedView(picture, in_world, local, placed, agreement)


def _found(pose: Float[np.ndarray, "4 4"] | None) -> Float[np.ndarray, "4 4"]:
    if pose is None:
        raise GeometryError("PnP found no pose that explains its points")
    return pose


def _similarity(in_world: ViewMap, local: ViewMap) -> Float[torch.Tensor, "3 4"]:
    source, target = local.points.reshape(-1, 3), in_world.points.reshape(-1, 3)
    c_source, c_target = local.confidence.reshape(-1), in_world.confidence.reshape(-1)
    counted = np.flatnonzero(local.finite & in_world.finite)
    counted = counted[:: max(1, len(counted) // _PAIRS)]
    # A pair is as good as the worse of its two points: confidences add like resistances.
    a, b = c_source[counted].astype(np.float64), c_target[counted].astype(np.float64)
    return registration.fit_similarity_robust(
        torch.from_numpy(source[counted].astype(np.float64)),
        torch.from_numpy(target[counted].astype(np.float64)),
        torch.from_numpy(a * b / (a + b)),
    )


def _pnp(
    picture: LoadedView, in_world: ViewMap, camera: Pinhole, seed: int
) -> Float[np.ndarray, "4 4"] | None:
    points = in_world.points.reshape(-1, 3)
    pixels = full_pixels(picture.fitted.placement).reshape(-1, 2)
    counted = np.flatnonzero(np.isfinite(points).all(-1) & in_world.voters.reshape(-1))
    counted = counted[:: max(1, len(counted) // _PNP_PAIRS)]
    try:
        return pnp.pose_from_points(
            points[counted], pixels[counted], camera.intrinsics, picture.size, seed=seed
        )
    except GeometryError:
        return None


def _agreement(
    pose: np.ndarray, other: np.ndarray, local: CarriedMap
) -> tuple[float, float] | None:
    angle = registration.rotation_angle(torch.from_numpy(pose), torch.from_numpy(other))
    depth = float(np.nanmedian(local.depth))
    distance = np.linalg.norm(pose[:3, 3] - other[:3, 3])
    if not np.isfinite(distance) or abs(depth) <= np.finfo(np.float32).tiny:
        return None
    return float(angle), float(distance / abs(depth))


def _into_first_frame(views: Sequence[SolvedView]) -> tuple[SolvedView, ...]:
    """All views in the frame of the first one's camera, whose pose becomes the identity.

    The global map is in that frame only as well as the student knows it; here it is exact, and
    the same for every file that is written.
    """
    if not views:
        return ()
    back = invert_rigid(torch.from_numpy(views[0].camera.world_from_cam))
    turn, shift = back[:3, :3].numpy(), back[:3, 3].numpy()
    moved = []
    for index, view in enumerate(views):
        pose = (back @ torch.from_numpy(view.camera.world_from_cam)).numpy()
        points = (view.in_world.points @ turn.T + shift).astype(np.float32)
        local = view.local
        if local is not None:
            similarity = compose(back[:3], torch.from_numpy(local.world_from_local)).numpy()
            local = dataclasses.replace(local, world_from_local=similarity)
        moved.append(
            dataclasses.replace(
                view,
                in_world=dataclasses.replace(view.in_world, points=points),
                local=local,
                camera=dataclasses.replace(
                    view.camera, world_from_cam=np.eye(4) if index == 0 else pose
                ),
            )
        )
    return tuple(moved)
