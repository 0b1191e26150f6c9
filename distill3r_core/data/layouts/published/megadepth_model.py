"""What the COLMAP model of a scene of MegaDepth says of its photographs: pose, K and an order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from distill3r_core.data.colmap_model import ColmapCamera, ColmapImage, read_observed_images
from distill3r_core.data.layouts.published.shared_points import walk_by_shared_points
from distill3r_core.data.layouts.records import DepthFile, Frame, Note, Rig, Scene
from distill3r_core.errors import ImageError
from distill3r_core.report import counted


def with_model(
    scene: Scene,
    model: Path,
    *,
    rig_of: Callable[[ColmapCamera], Rig],
    depth_of: Callable[[Path], Path | None],
) -> Iterator[Note | Scene]:
    """A scene whose images have poses, K and depth, ordered so that neighbors share points.

    Args:
        scene: Images alone, by name.
        model: Folder of the model.
        rig_of: K of the images of one of its cameras; raises ImageError where it is not known.
        depth_of: The depth map of an image; None: it has none.

    Raises:
        ImageError: The model is damaged.
    """
    frames = scene.frames
    registered, rigs, notes = _read(model, {frame.image.name for frame in frames}, rig_of)
    yield from (Note(f"{scene.scene_id}: {note}") for note in notes)
    frames = tuple(
        _registered(frame, registered[frame.image.name][0], rigs, depth_of(frame.image))
        if frame.image.name in registered
        else frame
        for frame in _ordered(frames, {name: seen for name, (_, seen) in registered.items()})
    )
    if lost := sum(frame.pose is None for frame in frames):
        images = counted(lost, "image", "are", of=len(frames))
        yield Note(f"{scene.scene_id}: {images} not in the model: no pose")
    yield replace(scene, frames=frames)


def _read(
    model: Path, wanted: set[str], rig_of: Callable[[ColmapCamera], Rig]
) -> tuple[
    dict[str, tuple[ColmapImage, Int[np.ndarray, "_"]]],
    dict[int, Rig],
    list[str],
]:
    """Images by name with the points that they see, K by camera, and what is to be said.

    Raises:
        ImageError: The model is damaged.
    """
    cameras, images = read_observed_images(model, wanted)
    rigs, notes = dict[int, Rig](), list[str]()
    for number, camera in cameras.items():
        try:
            rigs[number] = rig_of(camera)
        except ImageError as error:
            notes.append(f"camera {number} has no K, and its images no depth: {error}")
    return {image.name: (image, seen) for image, seen in images}, rigs, notes


def _ordered(frames: Sequence[Frame], seen: dict[str, Int[np.ndarray, "_"]]) -> tuple[Frame, ...]:
    """Images by the points that they share; those that are not in the model last, by name."""
    inside = [frame for frame in frames if frame.image.name in seen]
    walk = walk_by_shared_points([seen[frame.image.name] for frame in inside])
    outside = (frame for frame in frames if frame.image.name not in seen)
    return (*(inside[number] for number in walk), *outside)


def _registered(
    frame: Frame, image: ColmapImage, rigs: dict[int, Rig], depth: Path | None
) -> Frame:
    rig = rigs.get(image.camera)
    return replace(
        frame,
        pose=image.cam_from_world,
        pose_convention="w2c",
        # Negative values say which of two places is farther, and are no depth.
        depth=DepthFile(depth, codec="h5", scale=1.0, invalid=())
        if depth is not None and rig is not None
        else None,
        rig=rig,
        unit="none",
    )
