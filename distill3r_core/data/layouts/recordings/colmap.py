"""Layout `colmap`: images and the sparse model that COLMAP has made of them.

`<scene>/{images/..., sparse/0/{cameras, images}.{bin,txt}}`; also `sparse/` and `dense/sparse/`.
Poses are camera-from-world; their unit is not known. Where `patch_match_stereo` has run in an
undistorted workspace, depth is in `stereo/depth_maps/<image>.geometric.bin`.
"""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.colmap_model import ColmapCamera, ColmapImage, has_model, read_model
from distill3r_core.data.layouts.folders import entries_of, frame_key, order_of, walk
from distill3r_core.data.layouts.marked_scenes import marked_dataset
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
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.files import is_there
from distill3r_core.io.images.media_kinds import IMAGE_SUFFIXES
from distill3r_core.report import counted

_IMAGES = "images"
_MODELS = ("sparse", "dense/sparse", "colmap/sparse")
_DEPTHS = Path("stereo", "depth_maps")


def _mark(folder: Path) -> str | None:
    models = _models(folder)
    return f"has images and a model in {models[0].name}" if models else None


def _models(folder: Path) -> list[Path]:
    """Folders of the models beside a folder `images`; none: it is no scene."""
    if not (folder / _IMAGES).is_dir():
        return []
    found = []
    for place in (folder / name for name in _MODELS):
        if place.is_dir():
            parts = [place / entry.name for entry in entries_of(place)[0] if entry.is_dir()]
            found += [model for model in (place, *parts) if has_model(model)]
    return found


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    """The images of the largest model, and those that it has not registered, without poses."""
    models = [(place, *read_model(place)) for place in _models(folder)]
    place, cameras, images = max(models, key=lambda model: len(model[2]))
    others = [
        f"{other.relative_to(folder).as_posix()} ({counted(len(found), 'image')})"
        for other, _, found in models
        if other != place
    ]
    if others:
        yield Note(f"{scene_id}: {', '.join(others)} left out: models share no world frame")
    without_k = {camera.model for camera in cameras.values() if camera.intrinsics is None}
    if without_k:
        yield Note(f"{scene_id}: K of {', '.join(sorted(without_k))} cameras is left out")
    if any(camera.intrinsics is not None and any(camera.distortion) for camera in cameras.values()):
        yield Note(
            f"{scene_id}: its images are distorted; the pinhole of their K is taken "
            "(colmap image_undistorter writes images without distortion)"
        )
    registered = {image.name: image for image in images}
    files = {
        path.relative_to(folder / _IMAGES).as_posix(): path
        for _, listing in walk(folder / _IMAGES)
        for path in listing.files
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    for name in sorted(registered.keys() - files.keys(), key=frame_key):
        yield Refused(
            folder / _IMAGES / name, "the model names it, and it is not there", is_frame=True
        )
    lost = len(files.keys() - registered.keys())
    if lost:
        unposed = counted(lost, "image", "are", of=len(files))
        yield Note(f"{scene_id}: {unposed} not in the model: no pose")
    depths = folder / _DEPTHS if place.is_relative_to(folder / _MODELS[0]) else None
    frames = tuple(
        _frame(name, files[name], registered.get(name), cameras, depths)
        for name in sorted(files, key=frame_key)
    )
    yield Scene(scene_id, folder, frames, order=order_of(Path(name).stem for name in files))


def _frame(
    name: str,
    path: Path,
    image: ColmapImage | None,
    cameras: dict[int, ColmapCamera],
    depths: Path | None,
) -> Frame:
    stem = Path(name).with_suffix("").as_posix().replace("/", "_")
    if image is None:
        return Frame(name=stem, image=path)
    camera = cameras[image.camera]
    k = None if camera.is_fisheye else camera.intrinsics
    depth = None
    # Stereo takes images without distortion, and its maps belong to no others.
    if depths is not None and k is not None and not any(camera.distortion):
        depth = depths / f"{name}.geometric.bin"
    return Frame(
        name=stem,
        image=path,
        pose=image.cam_from_world,
        pose_convention="w2c",
        depth=DepthFile(depth, codec="colmap", scale=1.0, invalid=(), any_size=True)
        if depth is not None and is_there(depth)
        else None,
        rig=None if k is None else Rig(checked_intrinsics(k), (camera.height, camera.width)),
        unit="none",
        camera="fisheye" if camera.is_fisheye else "pinhole",
    )


LAYOUT = Layout(
    name="colmap",
    summary="<scene>/{images, sparse/0}, a COLMAP model beside its images",
    mark=_mark,
    scan=marked_dataset(_mark, _list_scene, sweep=True),
    carries=frozenset({"depth", "pose", "intrinsics"}),
)
