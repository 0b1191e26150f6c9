"""Cameras from point maps: a focal length and a pose for every view, in one world frame."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import GeometryError
from distill3r_core.geometry import pnp, registration
from distill3r_core.geometry.cameras import invert_rigid
from distill3r_core.geometry.focal import estimate_focal
from distill3r_core.geometry.similarity import compose
from distill3r_core.io.cameras import Camera
from distill3r_core.io.sources import spelled
from distill3r_core.report import Failure, Progress, Silent
from distill3r_core.stages.infer.pictures import LoadedView
from distill3r_core.stages.infer.reconstruction import Maps, SolvedView
from distill3r_core.types import Placement

PoseSource = Literal["similarity", "pnp"]

# The share of pixels with the least confidence that does not vote for a focal length (the
# original's choice).
_UNSURE = 0.1
_FOCAL_ROUNDS = 30
# Every k-th row and column votes for the focal length, as long as so many pixels do. All k divide
# the student's sizes: the principal point stays in the middle.
_STEPS, _VOTES = (14, 7, 2), 2000
# Pixels of a view that take part in its pose: more change nothing that can be measured.
_PAIRS = 20_000
_PNP_PAIRS = 5_000
LARGEST_CONFIDENCE = 65504.0  # in files, as in a cache
# Fields of view along the long edge, in degrees, that a camera may have, and the one that is
# taken where neither the points nor the camera tell.
_VIEWS = (5.0, 150.0)
_GUESSED_VIEW = 60.0


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
    seed: int = 0,
    progress: Progress | None = None,
) -> Solved:
    """Find the camera of every view and bring all into the frame of the first one's.

    A pose is the rigid part of the similarity that carries the view's local points to its global
    ones. PnP with RANSAC on the global points is run beside it where pycolmap is installed, and
    the agreement of the two is kept with the view.

    Args:
        loaded: The pictures.
        maps: What the student says about them, as predicted.
        poses: Which of the two poses is used.
        seed: Of RANSAC.
        progress: Told of every view.

    Raises:
        ExtraMissingError: `poses` is "pnp" and pycolmap is not installed.
    """
    progress = progress or Silent()
    if poses == "pnp":
        pnp.require_pnp()
    progress.begin("cameras", total=len(loaded), unit="views")
    views: list[SolvedView] = []
    failed: list[Failure] = []
    for picture, predicted in zip(loaded, maps, strict=True):
        try:
            views.append(_solve_view(*_turned_back(picture, predicted), poses, seed))
        except GeometryError as error:
            failed.append(Failure(str(picture.path or picture.name), f"no camera: {error.message}"))
        progress.advance()
    return Solved(_into_first_frame(views), tuple(failed))


def _turned_back(picture: LoadedView, maps: Maps) -> tuple[LoadedView, Maps]:
    """A view whose pixels were transposed for the network, with rows and columns as they were."""
    placement, image = picture.fitted.placement, picture.fitted.image
    if not placement.transposed:
        return picture, maps
    rows, columns = placement.size
    upright = Placement(box=placement.box, size=(columns, rows))
    fitted = dataclasses.replace(picture.fitted, image=image.transpose(1, 0, 2), placement=upright)
    turned = Maps(
        maps.points_global.transpose(1, 0, 2),
        maps.points_local.transpose(1, 0, 2),
        maps.confidence_global.T,
        maps.confidence_local.T,
    )
    return dataclasses.replace(picture, fitted=fitted), turned


def _solve_view(picture: LoadedView, maps: Maps, poses: PoseSource, seed: int) -> SolvedView:
    similarity = _similarity(maps)
    focal, focal_source = _focal(picture, maps)
    left, top, right, bottom = picture.fitted.placement.box
    intrinsics = np.array(
        [[focal, 0, (left + right) / 2], [0, focal, (top + bottom) / 2], [0, 0, 1]], np.float64
    )
    pose = registration.rigid_of(similarity).numpy()
    agreement = None
    if pnp.pnp_available():
        other = _pnp(picture, maps, intrinsics, seed)
        agreement = None if other is None else _agreement(pose, other, maps, similarity)
        if poses == "pnp":
            if other is None:
                raise GeometryError("PnP found no pose that explains its points")
            pose = other
    facts = {
        "focal_source": focal_source,
        "exif_focal": picture.exif_focal,
        "confidence_global": _median(maps.confidence_global),
        "confidence_local": _median(maps.confidence_local),
        "source": spelled(picture.path) if picture.path else None,
        "frame": picture.frame,
    }
    camera = Camera(picture.name, picture.size, intrinsics, pose, facts)
    return SolvedView(picture, maps, camera, similarity.numpy(), agreement)


def _median(confidence: Float[np.ndarray, "H W"]) -> float:
    """A number that JSON can hold, even where the confidence is infinite."""
    return float(min(np.nanmedian(confidence), LARGEST_CONFIDENCE))


def _similarity(maps: Maps) -> Float[torch.Tensor, "3 4"]:
    local, glob = maps.points_local.reshape(-1, 3), maps.points_global.reshape(-1, 3)
    c_local, c_global = maps.confidence_local.reshape(-1), maps.confidence_global.reshape(-1)
    counted = np.flatnonzero(
        np.isfinite(local).all(-1) & np.isfinite(glob).all(-1)
        & np.isfinite(c_local) & np.isfinite(c_global)
    )  # fmt: skip
    counted = counted[:: max(1, len(counted) // _PAIRS)]
    # A pair is as good as the worse of its two points: confidences add like resistances.
    a, b = c_local[counted].astype(np.float64), c_global[counted].astype(np.float64)
    return registration.fit_similarity_robust(
        torch.from_numpy(local[counted].astype(np.float64)),
        torch.from_numpy(glob[counted].astype(np.float64)),
        torch.from_numpy(a * b / (a + b)),
    )


def _focal(picture: LoadedView, maps: Maps) -> tuple[float, str]:
    """The focal length in pixels of the full-size picture, and where it comes from."""
    confidence, placement = maps.confidence_local, picture.fitted.placement
    sure = confidence >= np.nanquantile(confidence, _UNSURE)
    step = next((k for k in _STEPS if confidence.size >= _VOTES * k * k), 1)
    # A squashed picture has two focal lengths. Slopes in squashed units have the source's one.
    left, top, right, bottom = placement.box
    height, width = placement.size
    stretch = np.array([width / (right - left), height / (bottom - top), step]) / step
    widest, narrowest = (_focal_of(view, picture.size) for view in reversed(_VIEWS))
    try:
        focal = estimate_focal(
            torch.from_numpy(maps.points_local[::step, ::step] * stretch),
            torch.from_numpy(sure[::step, ::step]),
            centre=0.5 / step,
            rounds=_FOCAL_ROUNDS,
        ).item()
    except GeometryError:
        focal = 0.0  # no plausible one
    if widest <= focal <= narrowest:
        return focal, "points"
    if picture.exif_focal is not None:
        return picture.exif_focal, "exif: no plausible focal length fits the points"
    return (
        _focal_of(_GUESSED_VIEW, picture.size),
        f"guessed ({_GUESSED_VIEW:g}° wide): no plausible focal length fits the points",
    )


def _focal_of(view: float, size: tuple[int, int]) -> float:
    """Pixels of focal length for a field of view, in degrees, along the long edge."""
    return float(max(size) / (2 * np.tan(np.radians(view / 2))))


def full_pixels(placement: Placement) -> Float[np.ndarray, "H W 2"]:
    """Where the centres of a fitted picture's pixels lie in the full-size one, (u, v)."""
    left, top, right, bottom = placement.box
    height, width = placement.size
    u = left + (np.arange(width) + 0.5) * (right - left) / width
    v = top + (np.arange(height) + 0.5) * (bottom - top) / height
    return np.stack(np.meshgrid(u, v), axis=-1)


def _pnp(
    picture: LoadedView, maps: Maps, intrinsics: Float[np.ndarray, "3 3"], seed: int
) -> Float[np.ndarray, "4 4"] | None:
    points = maps.points_global.reshape(-1, 3)
    pixels = full_pixels(picture.fitted.placement).reshape(-1, 2)
    confidence = maps.confidence_global.reshape(-1)
    sure = confidence >= np.nanquantile(confidence, _UNSURE)
    counted = np.flatnonzero(np.isfinite(points).all(-1) & sure)
    counted = counted[:: max(1, len(counted) // _PNP_PAIRS)]
    try:
        return pnp.pose_from_points(
            points[counted], pixels[counted], intrinsics, picture.size, seed=seed
        )
    except GeometryError:
        return None


def _agreement(
    pose: np.ndarray, other: np.ndarray, maps: Maps, similarity: torch.Tensor
) -> tuple[float, float] | None:
    angle = registration.rotation_angle(torch.from_numpy(pose), torch.from_numpy(other))
    depth = np.cbrt(torch.det(similarity[:, :3]).item()) * np.nanmedian(maps.points_local[..., 2])
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
    moved = []
    for index, view in enumerate(views):
        pose = (back @ torch.from_numpy(view.camera.world_from_cam)).numpy()
        glob = view.maps.points_global @ back[:3, :3].mT.numpy() + back[:3, 3].numpy()
        maps = dataclasses.replace(view.maps, points_global=glob.astype(np.float32))
        camera = dataclasses.replace(view.camera, world_from_cam=np.eye(4) if index == 0 else pose)
        similarity = compose(back[:3], torch.from_numpy(view.world_from_local)).numpy()
        moved.append(
            dataclasses.replace(view, maps=maps, camera=camera, world_from_local=similarity)
        )
    return tuple(moved)
