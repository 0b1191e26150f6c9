"""Layout `megadepth-undistorted`: MegaDepth as D2-Net and glue-factory have undistorted it.

`Undistorted_SfM/<scene>/{images, sparse}`, the workspace of COLMAP's `image_undistorter`, and
`depth_undistorted/<scene>/*.h5`. `scene_info/*.npz` are pickled objects, which are not read. Facts:
cvg/glue-factory (`gluefactory/datasets/megadepth.py`).
"""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.colmap_model import ColmapCamera, has_model
from distill3r_core.data.layouts.folders import list_folder, names_in, one_dataset
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.published import megadepth
from distill3r_core.data.layouts.published.megadepth_model import with_model
from distill3r_core.data.layouts.records import Layout, Listed, Note, Refused, Rig, Scene
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.io.images.media import UNREAD
from distill3r_core.report import counted

_SCENES, _DEPTHS, _PICKLED = "Undistorted_SfM", "depth_undistorted", "scene_info"
_MODELS = (Path("sparse"), Path("sparse", "0"))


def _mark(folder: Path) -> str | None:
    # absolute(): a root may be the folder `.`.
    is_scene = folder.absolute().parent.name == _SCENES and (folder / "images").is_dir()
    return f"is a scene of {_SCENES}" if is_scene else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    without_model, places = 0, set[Path]()
    for listed in marked_scenes(root, skip, _mark, _list_scene):
        yield listed
        if isinstance(listed, Scene):
            without_model += _model_of(listed.folder) is None
            places.add(_place_of(listed.folder))
    if without_model:
        yield Note(
            f"{counted(without_model, 'scene', 'have')} no model in sparse: images are taken by "
            "name there, so that neighbors may not overlap, without depth, poses and intrinsics"
        )
    for place in sorted(places):
        if any(name.endswith(".npz") for name in names_in(place / _PICKLED)):
            yield Note(
                f"{place / _PICKLED} holds pickled objects and is not read: poses and intrinsics "
                f"are those of {_SCENES}/<scene>/sparse"
            )


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    listing = list_folder(folder / "images")
    yield from listing.refused
    yield from (Refused(path, UNREAD, is_frame=True) for path in listing.media.unread)
    yield from listing.media.left_out
    name = folder.absolute().name
    scene = Scene(
        scene_id=scene_id,
        folder=folder,
        frames=named_frames(listing.media.images),
        order="none",
        split="val" if name in megadepth.HELD_OUT else None,
        place=name,
    )
    model, depths = _model_of(folder), _place_of(folder) / _DEPTHS / name

    def depth_of(image: Path) -> Path | None:
        depth = depths / f"{image.stem}.h5"
        return depth if is_there(depth) else None

    if model is None:
        yield scene
        return
    try:
        yield from with_model(scene, model, rig_of=_rig, depth_of=depth_of)
    except ImageError as error:
        yield Refused(folder, str(error), images=scene)


def _place_of(folder: Path) -> Path:
    """The folder that holds those of images, depth and pickled objects."""
    return folder.absolute().parent.parent


def _model_of(folder: Path) -> Path | None:
    return next((folder / name for name in _MODELS if has_model(folder / name)), None)


def _rig(camera: ColmapCamera) -> Rig:
    """K of an undistorted camera.

    Raises:
        ImageError: It is distorted: the model is that of the images before.
    """
    if camera.intrinsics is None or any(camera.distortion):
        raise ImageError(f"a {camera.model} camera is not that of undistorted images")
    return Rig(checked_intrinsics(camera.intrinsics), (camera.height, camera.width))


LAYOUT = Layout(
    name="megadepth-undistorted",
    summary="Undistorted_SfM/<scene>/{images, sparse} and depth_undistorted/<scene>",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=megadepth.LAYOUT.carries,
    policy=megadepth.LAYOUT.policy,
)
