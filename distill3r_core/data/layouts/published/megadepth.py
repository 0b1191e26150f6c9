"""Layout `megadepth`: photographs of landmarks from the internet, without an order.

`<scene>/dense<k>/imgs/*`. The images are rectified and the intrinsics of their COLMAP models are
those of before, so they are taken alone, without depth and poses. Facts: naver/dust3r.
"""

from collections.abc import Iterator
from pathlib import Path

from distill3r_core.data.layouts.folders import (
    list_folder,
    marked_scenes,
    one_dataset,
)
from distill3r_core.data.layouts.images import named_frames
from distill3r_core.data.layouts.records import Layout, Listed, Note, Refused, Scene
from distill3r_core.data.windows import Policy
from distill3r_core.io.images.media import UNREAD

_HELD_OUT = ("0015", "0022")  # by DUSt3R and Fast3R


def _mark(folder: Path) -> str | None:
    is_scene = folder.name.startswith("dense") and (folder / "imgs").is_dir()
    return "has imgs" if is_scene else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    with_depth = 0
    for listed in marked_scenes(root, skip, _mark, _list_scene):
        yield listed
        with_depth += isinstance(listed, Scene) and (listed.folder / "depths").is_dir()
    if with_depth:
        yield Note(
            f"{with_depth} scenes have depths, which need the K of the rectified images; it is in "
            "no file: images are taken alone"
        )


def _list_scene(folder: Path, scene_id: str) -> Iterator[Listed]:
    listing = list_folder(folder / "imgs")
    yield from listing.refused
    yield from (Refused(path, UNREAD) for path in listing.media.unread)
    yield from listing.media.left_out
    yield Scene(
        scene_id=scene_id,
        folder=folder,
        frames=named_frames(listing.media.images),
        order="none",
        split="val" if folder.parent.name in _HELD_OUT else None,
        place=folder.parent.name,
    )


LAYOUT = Layout(
    name="megadepth",
    summary="<scene>/dense<k>/imgs/*",
    mark=_mark,
    scan=one_dataset(_list_scenes),
    policy=Policy("cloud", reference=100, most=8),
)
