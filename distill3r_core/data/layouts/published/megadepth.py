"""Layout `megadepth`: photographs of landmarks from the internet, without an order.

`<scene>/dense<k>/{imgs/*, depths/*.h5}` and `<scene>/sparse/manhattan/<k>`, the COLMAP model of the
images before they were rectified: poses hold for both, K follows from the distorted camera. Facts:
naver/dust3r.
"""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.colmap_model import has_model
from distill3r_core.data.layouts.folders import list_folder, one_dataset
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.layouts.marked_scenes import marked_scenes
from distill3r_core.data.layouts.published.megadepth_model import with_model
from distill3r_core.data.layouts.published.rectified_camera import rectified_rig
from distill3r_core.data.layouts.records import Layout, Listed, Note, Refused, Scene
from distill3r_core.data.windows import Policy
from distill3r_core.errors import ImageError
from distill3r_core.io.images.media import UNREAD
from distill3r_core.report import counted

_DENSE = "dense"
HELD_OUT = ("0015", "0022")  # by DUSt3R and Fast3R


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
            f"{counted(without_model, 'scene', 'have')} no model in sparse/manhattan: images are "
            "taken by name there, so that neighbors may not overlap, without depth, poses and "
            "intrinsics"
        )


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    listing = list_folder(folder / "imgs")
    yield from listing.refused
    yield from (Refused(path, UNREAD, is_frame=True) for path in listing.media.unread)
    yield from listing.media.left_out
    scene = Scene(
        scene_id=scene_id,
        folder=folder,
        frames=named_frames(listing.media.images),
        order="none",
        split="val" if folder.parent.name in HELD_OUT else None,
        place=folder.parent.name,
    )
    model, depths = _model_of(folder), folder / "depths"
    if not has_model(model):
        yield scene
        return
    with_depth = depths.is_dir()
    try:
        yield from with_model(
            scene,
            model,
            rig_of=rectified_rig,
            depth_of=lambda image: depths / f"{image.stem}.h5" if with_depth else None,
        )
    except ImageError as error:
        yield Refused(folder, str(error), images=scene)


def _model_of(folder: Path) -> Path:
    return folder.parent / "sparse" / "manhattan" / folder.name.removeprefix(_DENSE)


LAYOUT = Layout(
    name="megadepth",
    summary="<scene>/dense<k>/{imgs, depths} and <scene>/sparse/manhattan/<k>",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
    policy=Policy("cloud", reference=100, most=8),
)
