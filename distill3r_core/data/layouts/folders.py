"""Listing folders: natural order, links that lead nowhere, and what cannot be read."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from distill3r_core.data.layouts.records import Dataset, Listed, Refused
from distill3r_core.data.manifest import Order
from distill3r_core.io.images import media
from distill3r_core.io.images.inputs import natural_key

_NUMBER = re.compile(r"(\d+)")


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


def frame_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
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
        if _is_loop(entry):
            found.loops.append(path)
            found.refused.append(Refused(path, "a link that leads to itself"))
            continue
        if entry.is_dir():
            found.folders.append(path)
        elif path.suffix.lower() in media.IMAGE_SUFFIXES:
            _image_under(found, path, entry)
        elif entry.is_file():
            found.files.append(path)
    return found


def entries_of(folder: Path) -> tuple[list[os.DirEntry[str]], str | None]:
    """Entries that are not hidden, in natural order, and why the folder could not be listed.

    Links that lead to themselves are left out: their status cannot be read.
    """
    entries, trouble = _listed(folder)
    return [entry for entry in entries if not _is_loop(entry)], trouble


def _listed(folder: Path) -> tuple[list[os.DirEntry[str]], str | None]:
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        return [], f"cannot be listed: {(error.strerror or str(error)).lower()}"
    return sorted(kept, key=lambda entry: frame_key(entry.name)), None


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


def folders_of(root: Path) -> Iterator[Path]:
    """Folders from `root` down, hidden ones left out, each visited once; files are not looked at.

    Detection goes through a tree once for every layout, so this does as little as it can.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                below = [e.name for e in entries if not _is_loop(e) and e.is_dir()]
        except OSError:
            continue  # what cannot be listed is said when scenes are
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        yield folder
        below = [name for name in below if not name.startswith(".")]
        waiting += [folder / name for name in sorted(below, key=frame_key, reverse=True)]


def names_in(folder: Path) -> list[str]:
    """Names in a folder, in no order; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except OSError:
        return []


def folders_below(
    root: Path, *, skip: Path | None, is_scene: Callable[[Path], bool]
) -> Iterator[Path | Refused]:
    """Find the folders from `root` down that are scenes of a layout.

    Args:
        root: Folder to begin with.
        skip: A folder to leave out: that of the results.
        is_scene: Whether a folder is a scene.

    Yields:
        Scene folders in natural order, and what could not be listed.
    """
    for folder, listing in walk(root, skip=skip):
        # Refused files are left to the layout, which knows which ones it would have read.
        yield from (item for item in listing.refused if item.path in (folder, *listing.loops))
        if is_scene(folder):
            yield folder


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


def _image_under(found: FolderListing, path: Path, entry: os.DirEntry[str]) -> None:
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        found.refused.append(Refused(path, "its name is not valid UTF-8"))
        return
    if entry.is_file():
        found.files.append(path)
    elif entry.is_symlink():
        found.refused.append(Refused(path, "a link that leads nowhere"))
