"""Where a scene student's coordinates place each view: the pose of its camera by PnP."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.errors import GeometryError
from distill3r_core.geometry.pnp import SCENE_BOUND, pose_from_points, require_pycolmap
from distill3r_core.geometry.similarity import apply_similarity, invert_similarity
from distill3r_core.models.families import family_of
from distill3r_core.models.scene.frames import place_named, scene_of_views
from distill3r_core.models.scene.spec import SceneSpec
from distill3r_core.models.student import Student
from distill3r_core.types import PointMaps, RawMaps, ViewsInScene

_PAIRS = 5_000  # pixels of a view that take part at most


def knows_scene(student: Student) -> bool:
    """Whether a student predicts points in the frame of a scene that it has learned."""
    return family_of(student.spec).frame == "scene"


def scene_frame_problem(student: Student) -> str | None:
    """Why a scene student's coordinates are not known in its data's frame; None: they are."""
    frames = student.spec.scenes if isinstance(student.spec, SceneSpec) else ()
    unposed = [frame.name for frame in frames if not frame.posed]
    if not frames:
        return "it has learned no scene"
    if not unposed:
        return None
    return f"it learned {', '.join(unposed)} without the poses of the data"


def scene_raw_maps(
    student: Student,
    maps: PointMaps,
    intrinsics: Float[Tensor, "N 3 3"],
    *,
    world: str | None = None,
) -> RawMaps:
    """A scene student's pass over one sample, with the poses that its coordinates give.

    Args:
        maps: As the student predicts them, one sample on the CPU.
        intrinsics: K of each map.
        world: Name of the world that the views are of, which tells apart the scenes of a student
            that has learned several.

    Returns:
        Local maps are the coordinates in each camera's frame; those of a view without a pose stay
        in the scene's frame, and its similarity is NaN. `scene` is None where the student has
        learned no scene of that name, or learned it without poses. A view that is placed in
        another scene has no pose there, and its coordinates are infinite.

    Raises:
        ExtraMissingError: pycolmap is not installed.
    """
    placed = student.placed(maps).points_global
    assert placed is not None and maps.confidence_global is not None
    points, confidence = placed[0].float(), list(maps.confidence_global[0].float())
    poses = poses_by_pnp(points, intrinsics)
    scene = _in_scene(student, maps, points, poses, world)
    return maps_of_coordinates(points, poses, confidence, intrinsics, scene=scene)


def maps_of_coordinates(
    points: Float[Tensor, "N H W 3"],
    poses: Float[Tensor, "N 4 4"],
    confidence: Sequence[Float[Tensor, "H W"]],
    intrinsics: Float[Tensor, "N 3 3"],
    *,
    scene: ViewsInScene | None,
) -> RawMaps:
    """Maps of views whose pixels' coordinates in a world are predicted, and their poses by PnP.

    Args:
        points: In the world.
        poses: Of `poses_by_pnp`.
        scene: The views in the frame of their data; None: they have no place there.

    Returns:
        Local maps are the coordinates in each camera's frame; see `scene_raw_maps`.
    """
    known = torch.where(poses.isfinite(), poses, torch.eye(4, dtype=poses.dtype))
    local = apply_similarity(invert_similarity(known[:, :3]), points.double()).float()
    return RawMaps(
        points_local=list(local),
        confidence_local=confidence,
        confidence_global=confidence,
        global_from_local=poses[:, :3],
        intrinsics=intrinsics,
        scene=scene,
    )


def _in_scene(
    student: Student,
    maps: PointMaps,
    points: Float[Tensor, "N H W 3"],
    poses: Float[Tensor, "N 4 4"],
    world: str | None,
) -> ViewsInScene | None:
    """The views in the scene that they are of; see `scene_raw_maps`."""
    frames = student.spec.scenes if isinstance(student.spec, SceneSpec) else ()
    if len(frames) == 1:  # whatever the data call it
        place: int | None = 0
    else:
        place = None if world is None else place_named(world, frames)
    if place is None or not frames[place].posed:
        return None
    assert maps.points_global is not None
    elsewhere = scene_of_views(maps.points_global[0], frames) != place
    return ViewsInScene(
        tuple(points.masked_fill(elsewhere[:, None, None, None], torch.inf)),
        poses.masked_fill(elsewhere[:, None, None], torch.nan),
        frames[place].scale,
    )


def poses_by_pnp(
    points: Sequence[Float[Tensor, "H W 3"]] | Float[Tensor, "N H W 3"],
    intrinsics: Float[Tensor, "N 3 3"],
) -> Float[Tensor, "N 4 4"]:
    """`world_from_cam` of views whose pixels' coordinates are known; NaN where there is none.

    Args:
        points: In the world, one map per view; those that are not finite take no part.
        intrinsics: K of each map.

    Raises:
        ExtraMissingError: pycolmap is not installed.
    """
    require_pycolmap("poses in a scene")
    poses = []
    for one, camera in zip(points, intrinsics.double().numpy(), strict=True):
        height, width = one.shape[:2]
        rows, columns = np.mgrid[:height, :width] + 0.5
        pixels = np.stack([columns, rows], axis=-1).reshape(-1, 2)
        flat = one.double().numpy().reshape(-1, 3)
        chosen = np.flatnonzero(np.isfinite(flat).all(-1))
        chosen = chosen[:: max(1, -(-len(chosen) // _PAIRS))]
        try:
            pose = pose_from_points(
                flat[chosen],
                pixels[chosen],
                camera,
                (height, width),
                bound=SCENE_BOUND,
            )
        except GeometryError:
            pose = np.full((4, 4), np.nan)
        poses.append(torch.from_numpy(pose))
    return torch.stack(poses)
