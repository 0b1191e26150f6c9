"""Scenes that a layout knows by a mark in their folder, and media that belong to none of them."""

import os
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from distill3r_core.data.layouts.folders import (
    folders_of,
    frame_key,
    names_in,
    one_dataset,
    scene_id_of,
)
from distill3r_core.data.layouts.records import Dataset, Listed, Mark, Refused, Scene, VideoScene
from distill3r_core.errors import ImageError
from distill3r_core.io.images import folder_roles, media, media_kinds

OUTSIDE = "in no scene of this layout: list its folder alone, or all as --layout images"
UNUSED = "in the folder of a scene, but of no frame of this layout"
_MEDIA_SUFFIXES = media_kinds.IMAGE_SUFFIXES | media_kinds.VIDEO_SUFFIXES

# Lists what is in a scene's folder, given its id.
SceneLister = Callable[[Path, str], Iterator[Listed]]


def has_media(folder: Path | Refused) -> bool:
    """Whether a folder holds an image or a video, by the files' names."""
    names = names_in(folder) if isinstance(folder, Path) else []
    return any(_is_media(name) for name in names)


def marked_folder(folders: Iterable[Path | Refused], root: Path, mark: Mark) -> str | None:
    """Why a folder has a layout: the first of the folders below it that has the layout's mark.

    Args:
        folders: Those from `root` down.
        root: The folder that is to be recognized.
        mark: Of the layout.
    """
    for folder in folders:
        if isinstance(folder, Path) and (reason := mark(folder)):
            return f"{scene_id_of(folder, root)} {reason}"
    return None


def marked_scenes(
    root: Path, skip: Path | None, mark: Mark, list_scene: SceneLister, *, sweep: bool = False
) -> Iterator[Listed]:
    """List the scenes of a layout whose scenes are the folders with its mark.

    Args:
        root: Folder to begin with.
        skip: A folder to leave out: that of the results.
        mark: Of the layout.
        list_scene: Lists what is in a folder with the mark; an ImageError refuses the folder.
        sweep: Whether images and videos in a scene's folder that are of no frame are named, and
            masks beside its images count: in people's own recordings, not in data sets, which have
            millions of known files, and masks of one object.

    Yields:
        What is in the scenes, and the images and videos that belong to none.
    """
    used, later, taken = set[Path](), list[Path | media.LeftOut](), _TakenFiles()
    mask_folders: dict[Path, list[Path]] = {}
    failed = set[Path]()  # nothing more is said of what is in them
    for folder in folders_of(root, skip=skip):
        if isinstance(folder, Refused):
            yield folder
            continue
        is_marked = bool(mark(folder))
        taken.enter(folder, is_marked=is_marked)
        if is_marked:
            used.add(folder)
            failed.add(folder)
            try:
                for listed in list_scene(folder, scene_id_of(folder, root)):
                    if isinstance(listed, Scene) and sweep:
                        listed = _with_masks(listed, mask_folders)
                    if isinstance(listed, Scene):
                        used.update(frame.image.parent for frame in listed.frames)
                    if isinstance(listed, Scene | VideoScene):
                        failed.discard(folder)
                    if sweep:
                        taken.add(listed)
                    yield listed
            except ImageError as error:
                yield Refused(folder, str(error))
        if sweep and taken.around and failed.isdisjoint((folder, *folder.parents)):
            later += taken.unused(folder)
        elif not is_marked:
            later.append(folder)
    for item in later:
        if isinstance(item, Path) and used.isdisjoint((item, *item.parents)):
            yield from _media_besides(item, taken.elsewhere, OUTSIDE)
    for item in later if sweep else ():
        if isinstance(item, media.LeftOut):
            if str(item.path) not in taken.elsewhere:
                yield item
            continue
        places = (item, *item.parents)
        if not used.isdisjoint(places) and failed.isdisjoint(places):
            yield from _media_besides(item, taken.elsewhere, UNUSED)


@dataclass
class _TakenFiles:
    """Files of scenes, while folders are walked: those of a scene's folder until it is left.

    Args:
        around: Marked folders that hold the current one, outermost first, and the files in each
            that its own scenes have.
        elsewhere: Files that scenes have outside of their folders.
    """

    around: list[tuple[Path, set[str]]] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)

    def enter(self, folder: Path, *, is_marked: bool) -> None:
        """Go on to the next folder of the walk."""
        while self.around and not folder.is_relative_to(self.around[-1][0]):
            self.around.pop()
        if is_marked:
            self.around.append((folder, set()))

    def add(self, listed: Listed) -> None:
        """Take the files of what the current folder, which is marked, lists."""
        folder, own = self.around[-1]
        inside = f"{folder}{os.sep}"
        for path in _files_of(listed):
            (own if path.startswith(inside) else self.elsewhere).add(path)

    def unused(self, folder: Path) -> list[media.LeftOut]:
        """Images and videos of the current folder that no scene around it has."""
        *outer, (_, own) = self.around
        found = _media_besides(folder, own, UNUSED)
        return [item for item in found if not any(str(item.path) in files for _, files in outer)]


def _with_masks(scene: Scene, mask_folders: dict[Path, list[Path]]) -> Scene:
    """A scene with the masks of a folder beside its images, where its layout knows of none.

    Args:
        mask_folders: See `folder_roles.masks_beside`.
    """
    if any(frame.mask is not None for frame in scene.frames):
        return scene
    folders: dict[Path, list[Path]] = {}
    for frame in scene.frames:
        folders.setdefault(frame.image.parent, []).append(frame.image)
    masks: dict[Path, Path] = {}
    for folder, images in folders.items():
        masks |= folder_roles.masks_beside(folder, images, mask_folders=mask_folders)
    if not masks:
        return scene
    frames = tuple(replace(frame, mask=masks.get(frame.image)) for frame in scene.frames)
    return replace(scene, frames=frames)


def _files_of(listed: Listed) -> set[str]:
    """Files that a scene consists of, or that are named for another reason."""
    match listed:
        case Scene():
            return {str(path) for frame in listed.frames for path in frame.files}
        case VideoScene():
            frames = (listed.beside or {}).values()
            return {str(listed.path), *(str(path) for frame in frames for path in frame.files)}
        case Refused() | media.LeftOut():
            return {str(listed.path)}
    return set()


def _media_besides(folder: Path, taken: Container[str], reason: str) -> Iterator[media.LeftOut]:
    """Images and videos of a folder that are not taken."""
    for name in sorted(names_in(folder), key=frame_key):
        path = folder / name
        if _is_media(name) and str(path) not in taken:
            yield media.LeftOut(path, reason)


def _is_media(name: str) -> bool:
    return Path(name).suffix.lower() in _MEDIA_SUFFIXES and not name.startswith(".")


def marked_dataset(
    mark: Mark, list_scene: SceneLister, *, sweep: bool = False
) -> Callable[[Path, Path | None], list[Dataset]]:
    """The `scan` of a layout whose scenes are the folders with its mark, all in one data set.

    Args:
        mark: Of the layout.
        list_scene: See `marked_scenes`.
        sweep: See `marked_scenes`.
    """
    return one_dataset(lambda root, skip: marked_scenes(root, skip, mark, list_scene, sweep=sweep))
