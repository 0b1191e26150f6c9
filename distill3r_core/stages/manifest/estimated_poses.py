"""`manifest --poses colmap`: cameras of the frames by structure from motion, done once."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from distill3r_core.data.frame_reader import read_source_frame, rig_for
from distill3r_core.data.known_poses import with_color_pose
from distill3r_core.data.layouts import Frame, Refused, Rig, Scene
from distill3r_core.data.listing import DatasetListing
from distill3r_core.errors import ImageError
from distill3r_core.geometry.metric_scale import SceneScale, depth_ratio, scale_of
from distill3r_core.geometry.structure_from_motion import (
    FEW_IMAGES,
    SolvedImage,
    SolverCamera,
    resized_intrinsics,
    solve_images,
)
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.resize import resize_image
from distill3r_core.prediction import StepCallback, phases
from distill3r_core.report import Progress, counted
from distill3r_core.stages.manifest.manifest_folder import COLMAP
from distill3r_core.stages.manifest.placed_scene import (
    PlacedScene,
    digest_of,
    load_placed,
    save_placed,
)
from distill3r_core.views import Unit

UNPLACED = "COLMAP could not place it among the other images: no pose"
_UNSCALED = "its scene has no scale: too few of COLMAP's points have a depth"
_FILM_WIDTH = 36.0  # millimeters, the long edge that EXIF's 35 mm focal length means
_CLEAR_SHIFT = 1.0  # pixels by which distortion moves a corner, from which it is said


def with_estimated_poses(
    found: DatasetListing, folder: Path, *, check: bool, progress: Progress
) -> DatasetListing:
    """The data set with COLMAP's poses; frames that COLMAP did not place are refused.

    Args:
        found: A data set whose videos have been extracted.
        folder: The manifest's; results are kept there, and used again for the same files.
        check: Do all of it again.
        progress: Reports features, pairs and placed images of every scene.

    Raises:
        ExtraMissingError: pycolmap is not installed.
    """
    refused, placed = list(found.refused), dict[str, PlacedScene]()

    def posed(scene: Scene) -> Scene:
        path = folder / COLMAP / found.name / f"{scene.scene_id}.json"
        made = digest_of(scene)
        solved = None if check else load_placed(path, made)
        if solved is None:
            steps = phases(progress, f"{found.name}/{scene.scene_id}: COLMAP")
            solved = _solve(scene, steps)
            save_placed(path, made, solved)
        placed[scene.scene_id] = solved
        units: list[Unit] = [frame.unit for frame in scene.frames if frame.depth is not None]
        unit: Unit = units[0] if units and solved.scale is not None else "none"
        kept = []
        for frame in scene.frames:
            if (reason := solved.unread.get(frame.name)) is not None:
                refused.append(Refused(frame.image, reason, is_frame=True))
            elif (pose := solved.poses.get(frame.name)) is None:
                refused.append(Refused(frame.image, UNPLACED, is_frame=True))
            elif frame.depth is not None and solved.scale is None:
                refused.append(Refused(frame.image, _UNSCALED, is_frame=True))
            else:
                frame = replace(frame, rig=_with_estimate(frame.rig, solved.rigs.get(frame.name)))
                kept.append(with_color_pose(frame, pose, unit=unit))
        return replace(scene, frames=tuple(kept))

    posed_scenes = (scene for scene in map(posed, found.scenes) if scene.frames)
    listing = found.with_scenes(posed_scenes)
    notes = (*found.notes, *_notes(found, placed))
    return replace(listing, refused=tuple(refused), notes=notes)


def _solve(scene: Scene, on_step: StepCallback) -> PlacedScene:
    read: list[tuple[Frame, tuple[int, int], SolverCamera]] = []
    unread, count = dict[str, str](), len(scene.frames)

    def views() -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], SolverCamera]]:
        for done, frame in enumerate(scene.frames):
            on_step("images", done, count)
            try:
                pixels, focal = _pixels(frame)
            except ImageError as error:
                unread[frame.name] = str(error)
                continue
            size = pixels.shape[:2]
            rig = None if frame.rig is None else rig_for(frame.rig, size)
            camera = SolverCamera.of_image(
                size,
                intrinsics=None if rig is None else rig.color,
                focal=None if focal is None else focal * max(size) / _FILM_WIDTH,
                is_nominal=rig is not None and rig.is_nominal,
            )
            small = pixels if camera.size == size else resize_image(pixels, camera.size)
            read.append((frame, size, camera))
            yield small, camera
        if count:
            on_step("images", count, count)

    solved = solve_images(views(), ordered=scene.is_ordered, on_step=on_step)
    found = {index: (*read[index], solved[index]) for index in sorted(solved)}
    rigs = {
        frame.name: Rig(resized_intrinsics(one.intrinsics, camera.size, size), size)
        for frame, size, camera, one in found.values()
        if not camera.is_fixed
    }
    ratios = [
        ratio
        for frame, _, _, one in found.values()
        if frame.depth is not None
        and (ratio := _ratio(frame, rigs.get(frame.name), one)) is not None
    ]
    scale = scale_of(ratios)
    poses = {}
    for frame, _, _, one in found.values():
        pose = one.world_from_cam.copy()
        if scale is not None:  # frames without depth, too: a scene has one unit
            pose[:3, 3] *= scale.scale
        poses[frame.name] = pose
    shifts = [_shift(one) for one in solved.values()]
    errors = [one.error for one in solved.values() if not np.isnan(one.error)]
    return PlacedScene(
        poses,
        rigs,
        unread,
        scale,
        max(shifts, default=0.0),
        float(np.median(errors)) if errors else float("nan"),
    )


def _pixels(frame: Frame) -> tuple[UInt8[np.ndarray, "H W 3"], float | None]:
    image = read_image(frame.image)
    return image.pixels, image.exif_focal_35mm


def _with_estimate(known: Rig | None, estimated: Rig | None) -> Rig | None:
    """The cameras of a frame with the color camera that COLMAP has estimated, where it has.

    The depth camera and its place beside the color camera stay what they were.
    """
    if known is None or estimated is None:
        return known or estimated
    size = estimated.size
    assert size is not None, "COLMAP's cameras have one"
    return replace(rig_for(known, size), color=estimated.color, size=size, is_nominal=False)


def _ratio(frame: Frame, rig: Rig | None, solved: SolvedImage) -> float | None:
    """The sensor's depth over COLMAP's, in the median over the points that an image sees."""
    try:
        # Registered to the color camera, which is the one that COLMAP placed.
        rig = _with_estimate(frame.rig, rig)
        source = read_source_frame(replace(frame, pose=None, rig=rig), trust=True)
    except ImageError:
        return None  # the frame is refused for it when it is read
    assert source.depth is not None
    return depth_ratio(source.depth, solved)


def _shift(solved: SolvedImage) -> float:
    k, size = solved.intrinsics, solved.size
    corner = np.hypot(max(k[0, 2], size[1] - k[0, 2]), max(k[1, 2], size[0] - k[1, 2]))
    radius = corner / k[0, 0]
    return abs(solved.distortion) * radius**3 * k[0, 0]


def _notes(found: DatasetListing, placed: Mapping[str, PlacedScene]) -> list[str]:
    frames = {scene.scene_id: len(scene.frames) for scene in found.scenes}
    total, done = sum(frames.values()), sum(len(one.poses) for one in placed.values())
    if not total:
        return []
    ways = {_matching(scene) for scene in found.scenes}
    images = counted(done, "image", of=total)
    notes = [f"{found.name}: COLMAP placed {images} ({' and '.join(sorted(ways))})"]
    for scene, one in placed.items():
        if (missing := frames[scene] - len(one.poses)) and done:
            lost = counted(missing, "image", "have")
            notes.append(f"{found.name}/{scene}: {lost} no pose: see rejected.csv")
    errors = [one.error for one in placed.values() if not np.isnan(one.error)]
    if errors:
        notes.append(
            f"{found.name}: COLMAP's points are {max(errors):.2f} pixels from where they are seen "
            f"(mean of a view, median of the views{', worst scene' if len(errors) > 1 else ''})"
        )
    scales = {scene: one.scale for scene, one in placed.items() if one.scale is not None}
    notes += [
        f"{found.name}/{scene}: metric by its depth: 1 of COLMAP's units is "
        f"{scale.scale:.4g}, by {_views(scale)}"
        for scene, scale in scales.items()
    ]
    distorted = [one.shift for one in placed.values() if one.shift > _CLEAR_SHIFT]
    if distorted:
        notes.append(
            f"{found.name}: images of {counted(len(distorted), 'scene')} are distorted, by "
            f"{max(distorted):.1f} pixels in the corners at most; the pinhole of their K is taken"
        )
    return notes


def _views(scale: SceneScale) -> str:
    """The views that tell a scale, and by how much they differ where there are several."""
    views = counted(scale.views, "view")
    if scale.views == 1:
        return views
    return f"{views} that differ by {scale.spread:.1%}".replace("%", " %")


def _matching(scene: Scene) -> str:
    if not scene.is_ordered or len(scene.frames) <= FEW_IMAGES:
        return "all pairs matched"
    return "neighbors matched"
