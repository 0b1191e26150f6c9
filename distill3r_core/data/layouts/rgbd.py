"""Layout `rgbd`, the plain one: color, registered depth, poses and intrinsics, one file each.

`<scene>/{rgb/NNNNNN.png|jpg, depth/NNNNNN.png (16-bit millimeters, 0 and 65535 invalid),
pose/NNNNNN.txt (4x4 world_from_cam, meters), intrinsics.txt (3x3, centers at +0.5)}`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from distill3r_core.data.layouts.folders import (
    dataset_name,
    entries_of,
    frame_key,
    list_folder,
    one_dataset,
    order_of,
)
from distill3r_core.data.layouts.marked_scenes import marked_scenes
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
from distill3r_core.data.layouts.split_files import SplitFiles, read_split_files, split_notes
from distill3r_core.data.matrix_files import read_intrinsics
from distill3r_core.errors import ImageError
from distill3r_core.io.images.folder_roles import masks_beside
from distill3r_core.io.images.media import UNREAD

_INTRINSICS = "intrinsics.txt"


def _mark(folder: Path) -> str | None:
    if not (folder / "rgb").is_dir():
        return None
    found = next((n for n in ("depth", "pose", _INTRINSICS) if (folder / n).exists()), None)
    return f"has rgb and {found}" if found else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    files = read_split_files(root)
    present: set[str] = set()
    for listed in marked_scenes(root, skip, _mark, partial(_list_scene, files=files), sweep=True):
        yield listed
        if isinstance(listed, Scene):
            present.add(listed.scene_id)
    for text in split_notes(files, present, dataset_name(root)):
        yield Note(text)


def _list_scene(folder: Path, scene_id: str, *, files: SplitFiles) -> Iterator[Listed]:
    listing = list_folder(folder / "rgb")
    refused = listing.refused
    rig = None
    try:
        rig = Rig(color=read_intrinsics(folder / _INTRINSICS))
    except ImageError as error:
        refused.append(Refused(folder / _INTRINSICS, str(error)))
    images = listing.media.images
    refused += [Refused(path, UNREAD, is_frame=True) for path in listing.media.unread]
    depths, poses = _files_of(folder / "depth", ".png"), _files_of(folder / "pose", ".txt")
    stems = {path.stem for path in images}
    for stem in depths.keys() | poses.keys():
        if stem not in stems:
            refused.append(
                Refused(folder / "rgb" / stem, "no color picture of this frame", is_frame=True)
            )
    masks = {**masks_beside(folder / "rgb", images), **listing.media.masks}
    frames = tuple(
        Frame(
            name=path.stem,
            image=path,
            number=int(path.stem) if path.stem.isdecimal() else None,
            depth=DepthFile(depths.get(path.stem, folder / "depth" / f"{path.stem}.png")),
            pose=poses.get(path.stem, folder / "pose" / f"{path.stem}.txt"),
            rig=rig,
            mask=masks.get(path),
        )
        for path in images
    )
    yield from sorted(refused, key=lambda item: frame_key(str(item.path)))
    yield Scene(
        scene_id=scene_id,
        folder=folder,
        frames=frames,
        order=order_of(frame.name for frame in frames),
        split=files.split_of(scene_id),
        is_test=files.is_test(scene_id),
    )


def _files_of(folder: Path, suffix: str) -> dict[str, Path]:
    """Files with a suffix, in any case, by their stem.

    Raises:
        OSError: Whether the folder is there cannot be found out.
    """
    entries = entries_of(folder)[0] if folder.is_dir() else []
    paths = (folder / entry.name for entry in entries)
    return {path.stem: path for path in paths if path.suffix.lower() == suffix}


LAYOUT = Layout(
    name="rgbd",
    summary="<scene>/{rgb, depth, pose, intrinsics.txt}, one file a frame",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    carries=frozenset({"depth", "pose", "intrinsics"}),
)
