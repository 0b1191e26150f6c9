"""Layout `megadepth`: photographs of landmarks from the internet, without an order.

`<scene>/dense<k>/imgs/*`. The images are rectified and the intrinsics of their COLMAP models are
those of before, so they are taken alone, without depth and poses. Facts: naver/dust3r.
"""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.layouts.folders import (
    folders_below,
    folders_of,
    list_folder,
    one_dataset,
    scene_id_of,
)
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.layouts.records import Layout, Listed, Note, Refused, Scene
from distill3r_core.data.windows import Policy
from distill3r_core.io.images.media import UNREAD

_HELD_OUT = ("0015", "0022")  # by DUSt3R and Fast3R


def _detect(root: Path) -> str | None:
    if root.is_dir():
        for folder in folders_of(root):
            if _is_scene(folder):
                return f"{scene_id_of(folder, root)} has imgs"
    return None


def _is_scene(folder: Path) -> bool:
    return folder.name.startswith("dense") and (folder / "imgs").is_dir()


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    with_depth = 0
    for folder in folders_below(root, skip=skip, is_scene=_is_scene):
        if isinstance(folder, Refused):
            yield folder
            continue
        listing = list_folder(folder / "imgs")
        yield from listing.refused
        yield from (Refused(path, UNREAD) for path in listing.media.unread)
        yield from listing.media.left_out
        with_depth += (folder / "depths").is_dir()
        held_out = folder.parent.name in _HELD_OUT
        yield Scene(
            scene_id=scene_id_of(folder, root),
            folder=folder,
            frames=named_frames(listing.media.images),
            order="none",
            split="val" if held_out else None,
            place=folder.parent.name,
        )
    if with_depth:
        yield Note(
            f"{with_depth} scenes have depths, which need the K of the rectified images; it is in "
            "no file: images are taken alone"
        )


LAYOUT = Layout(
    name="megadepth",
    summary="<scene>/dense<k>/imgs/*",
    detect=_detect,
    scan=one_dataset(_list_scenes),
    policy=Policy("cloud", reference=100, most=8),
)
