"""Layout `images`: every folder that holds images is a scene, and every video."""

import collections
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill3r_core.data.layouts.folders import one_dataset, order_of, scene_id_of, walk
from distill3r_core.data.layouts.records import (
    Frame,
    Layout,
    Listed,
    Note,
    Scene,
    VideoScene,
)


def named_frames(images: Sequence[Path]) -> tuple[Frame, ...]:
    """Frames of one folder, named by their stems; by their full names where stems repeat."""
    stems = collections.Counter(path.stem.casefold() for path in images)
    frames: dict[str, Frame] = {}
    for path in images:
        name = path.stem if stems[path.stem.casefold()] == 1 else path.name
        while name in frames:  # `a.jpg` beside `a.png`, and `a.jpg.png` too
            name += "_"
        frames[name] = Frame(name=name, image=path)
    return tuple(frames.values())


def _detect(root: Path) -> str | None:
    return "no other layout fits" if root.is_dir() else None


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    unread: collections.Counter[str] = collections.Counter()
    for folder, listing in walk(root, skip=skip):
        yield from listing.refused
        for video in listing.videos:
            yield VideoScene(video.relative_to(root).as_posix(), video)
        unread.update(listing.others)
        if listing.images:
            yield Scene(
                scene_id=scene_id_of(folder, root),
                folder=folder,
                frames=named_frames(listing.images),
                order=order_of(path.stem for path in listing.images),
            )
    for suffix, count in sorted(unread.items()):
        yield Note(f"{count} files {suffix} are not read")


LAYOUT = Layout(
    name="images",
    summary="images in one folder or in several, one scene each; videos",
    detect=_detect,
    scan=one_dataset(_list_scenes),
    is_fallback=True,
)
