"""Layout `megadepth`: photographs of landmarks from the internet, without an order.

`<scene>/dense<k>/{imgs/*, depths/*.h5}` and `<scene>/sparse/manhattan/<k>`, the COLMAP model of the
images before they were rectified: poses hold for both, K follows from the distorted camera. Facts:
naver/dust3r.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from distill3r_core.data.colmap_model import ColmapImage, has_model, read_observed_images
from distill3r_core.data.layouts.folders import (
    list_folder,
    marked_scenes,
    one_dataset,
)
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.layouts.published.rectified_camera import rectified_rig
from distill3r_core.data.layouts.published.shared_points import walk_by_shared_points
from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Rig,
    Scene,
)
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.io.images.media import UNREAD

_DENSE = "dense"
_HELD_OUT = ("0015", "0022")  # by DUSt3R and Fast3R


def _mark(folder: Path) -> str | None:
    is_scene = folder.name.startswith(_DENSE) and (folder / "imgs").is_dir()
    return "has imgs" if is_scene else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    without_model = 0
    for listed in marked_scenes(root, skip, _mark, _list_scene):
        yield listed
        without_model += isinstance(listed, Scene) and not has_model(_model_of(listed.folder))
    if without_model:
        yield Note(
            f"{without_model} scenes have no model in sparse/manhattan: their images are taken by "
            "name, so that neighbors may not overlap, without depth, poses and intrinsics"
        )


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    listing = list_folder(folder / "imgs")
    yield from listing.refused
    yield from (Refused(path, UNREAD) for path in listing.media.unread)
    yield from listing.media.left_out
    frames = named_frames(listing.media.images)
    scene = Scene(
        scene_id=scene_id,
        folder=folder,
        frames=frames,
        order="none",
        split="val" if folder.parent.name in _HELD_OUT else None,
        place=folder.parent.name,
    )
    model = _model_of(folder)
    if has_model(model):
        try:
            registered, rigs, notes = _read(model, {frame.image.name for frame in frames})
        except ImageError as error:
            yield Refused(folder, str(error), images=scene)
            return
        yield from (Note(f"{scene_id}: {note}") for note in notes)
        with_depth = (folder / "depths").is_dir()
        frames = tuple(
            _registered(frame, registered[frame.image.name][0], rigs, with_depth=with_depth)
            if frame.image.name in registered
            else frame
            for frame in _ordered(frames, {name: seen for name, (_, seen) in registered.items()})
        )
        if lost := sum(frame.pose is None for frame in frames):
            yield Note(f"{scene_id}: {lost} of {len(frames)} images are not in the model: no pose")
        scene = replace(scene, frames=frames)
    yield scene


def _model_of(folder: Path) -> Path:
    return folder.parent / "sparse" / "manhattan" / folder.name.removeprefix(_DENSE)


def _read(
    model: Path, wanted: set[str]
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
            rigs[number] = rectified_rig(camera)
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
    frame: Frame, image: ColmapImage, rigs: dict[int, Rig], *, with_depth: bool
) -> Frame:
    rig = rigs.get(image.camera)
    depth = frame.image.parent.parent / "depths" / f"{frame.image.stem}.h5"
    return replace(
        frame,
        pose=image.cam_from_world,
        pose_convention="w2c",
        # Negative values say which of two places is farther, and are no depth.
        depth=DepthFile(depth, codec="h5", scale=1.0, invalid=())
        if with_depth and rig is not None
        else None,
        rig=rig,
        unit="none",
    )


LAYOUT = Layout(
    name="megadepth",
    summary="<scene>/dense<k>/{imgs, depths} and <scene>/sparse/manhattan/<k>",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("cloud", reference=100, most=8),
)
