"""Listing folders: natural order, links that lead nowhere, and what cannot be read."""

import errno
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from distill3r_core.data.layouts.records import (
    Dataset,
    Listed,
    Mark,
    Refused,
    Scene,
    VideoScene,
)
from distill3r_core.data.manifest import Order
from distill3r_core.errors import ImageError
from distill3r_core.io.images import folder_roles, media, media_kinds
from distill3r_core.io.images.inputs import natural_key

_NUMBER = re.compile(r"(\d+)")
_LOOP = "a link that leads to itself"
OUTSIDE = "in no scene of this layout: list its folder alone, or all as --layout images"
UNUSED = "in the folder of a scene, but of no frame of this layout"
_MEDIA_SUFFIXES = media_kinds.IMAGE_SUFFIXES | media_kinds.VIDEO_SUFFIXES

# Lists what is in a scene's folder, given its id.
SceneLister = Callable[[Path, str], Iterator[Listed]]


@dataclass
class FolderListing:
    """Entries of a folder, in natural order.

    Args:
        files: Files, of any kind, and links to files that are not there.
        folders: Folders.
        refused: What cannot be read, and why.
        loops: Links that lead to themselves; they are refused too.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)

    @cached_property
    def media(self) -> media.FolderMedia:
        """The files by what they are; files are opened for it where their names do not say."""
        return media.sort_files(self.files)


def frame_key(name: str) -> tuple[list[str | int], str]:
    """Sort key: `IMG_9` before `IMG_10`; names that differ only in case or zeros by spelling."""
    return natural_key(name), name


def order_of(names: Iterable[str]) -> Order:
    """Whether the natural order of names is that of numbers in them."""
    return "number" if all(_NUMBER.search(name) for name in names) else "name"


def list_folder(folder: Path) -> FolderListing:
    """List a folder, hidden files left out."""
    found = FolderListing()
    entries, trouble = _listed(folder)
    if trouble is not None:
        found.refused.append(Refused(folder, trouble))
    for entry in entries:
        path = folder / entry.name
        is_image = entry.name.lower().endswith(media_kinds.IMAGE_NAMES)
        if _is_loop(entry):
            found.loops.append(path)
            found.refused.append(Refused(path, _LOOP))
        elif entry.is_dir():
            found.folders.append(path)
        elif is_image and not _is_utf8(entry.name):
            found.refused.append(Refused(path, "its name is not valid UTF-8"))
        elif entry.is_file():
            found.files.append(path)
        elif is_image and entry.is_symlink():
            found.refused.append(Refused(path, "a link that leads nowhere"))
    return found


def entries_of(folder: Path) -> tuple[list[os.DirEntry[str]], str | None]:
    """Entries that are not hidden, in natural order, and why the folder could not be listed.

    Links that lead to themselves are left out: their status cannot be read.
    """
    entries, trouble = _listed(folder)
    return [entry for entry in entries if not _is_loop(entry)], trouble


def numbered_files(folder: Path, suffixes: Container[str]) -> dict[int, Path]:
    """Files of a folder with some suffixes, in any case, by the number that is their name.

    Raises:
        OSError: Whether the folder is there cannot be found out.
    """
    entries = entries_of(folder)[0] if folder.is_dir() else []
    paths = (folder / entry.name for entry in entries)
    return {
        int(path.stem): path
        for path in paths
        if path.suffix.lower() in suffixes and path.stem.isdecimal()
    }


def _is_utf8(name: str) -> bool:
    """Whether the bytes of a name are valid UTF-8: Python keeps others as lone surrogates."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _listed(folder: Path) -> tuple[list[os.DirEntry[str]], str | None]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        return [], _not_listed(error)
    return sorted(kept, key=lambda entry: frame_key(entry.name)), None


def _not_listed(error: OSError) -> str:
    return f"cannot be listed: {(error.strerror or str(error)).lower()}"


def _place_of(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from others, whatever path leads to it; None: it is not there."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_loop(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():  # spares most files a second system call
        return False
    try:
        entry.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def walk(root: Path, *, skip: Path | None = None) -> Iterator[tuple[Path, FolderListing]]:
    """Folders from `root` down, in natural order; each is visited once, whatever links say.

    Args:
        root: Where to begin.
        skip: A folder to leave out: that of the results.
    """
    seen = {skip.resolve()} if skip is not None else set()

    def visit(folder: Path) -> Iterator[tuple[Path, FolderListing]]:
        place = folder.resolve()
        if place in seen:
            return
        seen.add(place)
        listing = list_folder(folder)
        yield folder, listing
        for below in listing.folders:
            yield from visit(below)

    yield from visit(root)


def folders_of(root: Path, *, skip: Path | None = None) -> Iterator[Path | Refused]:
    """Find the folders from `root` down; each is visited once, whatever links say.

    Files are not looked at, so that a tree of millions of them is walked quickly.

    Args:
        root: Folder to begin with.
        skip: A folder to leave out: that of the results.

    Yields:
        Folders in natural order, hidden ones left out, and before each what cannot be listed in it.
    """
    seen = {place} if skip is not None and (place := _place_of(skip)) else set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        place = _place_of(folder)
        if place in seen:
            continue
        if place is not None:
            seen.add(place)
        try:
            with os.scandir(folder) as entries:
                branches = [entry for entry in entries if entry.is_symlink() or entry.is_dir()]
        except OSError as error:
            yield Refused(folder, _not_listed(error))
            branches = []
        below = []
        for entry in sorted(branches, key=lambda entry: frame_key(entry.name)):
            if entry.name.startswith("."):
                continue
            if _is_loop(entry):
                yield Refused(folder / entry.name, _LOOP)
            elif entry.is_dir():
                below.append(folder / entry.name)
        yield folder
        waiting += reversed(below)


def names_in(folder: Path) -> list[str]:
    """Names in a folder, in no order; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


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


def one_dataset(
    list_scenes: Callable[[Path, Path | None], Iterator[Listed]],
) -> Callable[[Path, Path | None], list[Dataset]]:
    """The `scan` of a layout to which a root is one data set, named like its folder.

    Args:
        list_scenes: Lists the scenes of a root; its second argument is a folder to leave out.
    """
    return lambda root, skip: [Dataset(dataset_name(root), root, partial(list_scenes, root, skip))]


def scene_id_of(folder: Path, root: Path) -> str:
    """Path parts from the root that name a scene; the root's own name where it is the scene."""
    relative = folder.relative_to(root).as_posix()
    return root.resolve().name if relative == "." else relative


def dataset_name(root: Path) -> str:
    """The name of the data set in a folder."""
    return root.resolve().name or "root"


def shown(path: Path) -> str:
    """A path as valid UTF-8; bytes that are not are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
