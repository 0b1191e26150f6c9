"""Layout `images`: every folder that holds images is a scene, and every video."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from distill3r_core.data.layouts.folders import (
    one_dataset,
    order_of,
    scene_id_of,
    shown,
    walk,
)
from distill3r_core.data.layouts.records import (
    Frame,
    Layout,
    Listed,
    Note,
    Refused,
    Scene,
    VideoScene,
)
from distill3r_core.io.images import folder_roles, media

_PARTS = frozenset({"pose", "poses", "intrinsic", "intrinsics", "depth", "depths", "calibration"})


def named_frames(
    images: Sequence[Path], masks: Mapping[Path, Path] | None = None
) -> tuple[Frame, ...]:
    """Frames of one folder, named by their stems; by their full names where stems repeat.

    Args:
        images: In order.
        masks: Mask of each image that has one.
    """
    stems = [path.stem for path in images]
    counts = collections.Counter(stem.casefold() for stem in stems)
    frames: dict[str, Frame] = {}
    for path, stem in zip(images, stems, strict=True):
        name = stem if counts[stem.casefold()] == 1 else path.name
        while name in frames:  # `a.jpg` beside `a.png`, and `a.jpg.png` too
            name += "_"
        frames[name] = Frame(name=name, image=path, mask=(masks or {}).get(path))
    return tuple(frames.values())


def _list_scenes(root: Path, skip: Path | None) -> Iterator[Listed]:
    masks: list[Path] = []
    mask_folders: dict[Path, list[Path]] = {}
    used: set[Path] = set()
    for folder, listing in walk(root, skip=skip):
        yield from listing.refused
        role = None if folder == root else folder_roles.role_of_folder(folder)
        found = listing.media
        if role == media.MASK:  # whether they are used is known when all folders were seen
            masks += found.images
        elif role is not None:
            yield from (media.LeftOut(path, role) for path in found.images)
        yield from found.left_out
        yield from found.others
        yield from (Refused(path, media.UNREAD, is_frame=True) for path in found.unread)
        for video in found.videos:
            yield VideoScene(video.relative_to(root).as_posix(), video)
        images = [] if role else found.images
        if images:
            of_images = {
                **folder_roles.masks_beside(folder, images, mask_folders=mask_folders),
                **found.masks,
            }
            used |= {path.resolve() for path in of_images.values()}
            yield Scene(
                scene_id=scene_id_of(folder, root),
                folder=folder,
                frames=named_frames(images, of_images),
                order=order_of(path.stem for path in images),
            )
        if parts := sorted(path.name for path in listing.folders if path.name.lower() in _PARTS):
            yield Note(
                f"{shown(folder)} has {', '.join(parts)} beside its images, which is no layout "
                "that is known: its images are taken alone, without depth, poses and intrinsics"
            )
    for path in masks:
        if path.resolve() not in used:
            yield media.LeftOut(path, media.MASK_WITHOUT_IMAGE)


LAYOUT = Layout(
    name="images",
    summary="images in one folder or in several, one scene each; videos",
    detect=lambda root: "no other layout fits" if root.is_dir() else None,
    scan=one_dataset(_list_scenes),
    is_fallback=True,
)
