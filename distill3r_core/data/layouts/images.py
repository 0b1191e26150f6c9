"""Layout `images`: every folder with photographs directly in it is a scene, and every video."""

import collections
from collections.abc import Sequence
from pathlib import Path

from distill3r_core.data.layouts.base import (
    Frame,
    Listing,
    Refused,
    Scan,
    Scene,
    dataset_name,
    order_of,
    scene_id_of,
    walk,
)

NAME = "images"


def detect(root: Path) -> bool:
    """Any folder may be one: this layout is asked last."""
    return root.is_dir()


def scan(root: Path, *, skip: Path | None = None) -> tuple[Scan, ...]:
    """List the scenes below a folder.

    Args:
        root: A folder of photographs, or of such folders.
        skip: A folder to leave out: that of the results.
    """
    scenes: list[Scene] = []
    videos: list[tuple[str, Path]] = []
    refused: list[Refused] = []
    others: collections.Counter[str] = collections.Counter()
    for folder, listing in walk(root, skip=skip):
        refused += listing.refused
        videos += [(path.relative_to(root).as_posix(), path) for path in listing.videos]
        others.update(listing.others)
        if listing.pictures:
            scenes.append(_scene(root, folder, listing))
    notes = [f"{count} files {suffix} are not read" for suffix, count in sorted(others.items())]
    return (
        Scan(
            dataset=dataset_name(root),
            layout=NAME,
            root=root,
            scenes=tuple(scenes),
            videos=tuple(videos),
            refused=tuple(refused),
            notes=tuple(notes),
        ),
    )


def named_frames(pictures: Sequence[Path]) -> tuple[Frame, ...]:
    """Frames of one folder, called by their stems; by their full names where stems repeat."""
    stems = collections.Counter(path.stem.casefold() for path in pictures)
    frames: dict[str, Frame] = {}
    for path in pictures:
        name = path.stem if stems[path.stem.casefold()] == 1 else path.name
        while name in frames:  # `a.jpg` beside `a.png`, and `a.jpg.png` too
            name += "_"
        frames[name] = Frame(name=name, color=path)
    return tuple(frames.values())


def _scene(root: Path, folder: Path, listing: Listing) -> Scene:
    return Scene(
        scene_id=scene_id_of(folder, root),
        folder=folder,
        frames=named_frames(listing.pictures),
        order=order_of(path.stem for path in listing.pictures),
    )
