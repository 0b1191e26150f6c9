"""Listing folders: natural order, links that lead nowhere, and what cannot be read."""

import errno
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from distill3r_core.data.layouts.records import Dataset, Listed, Refused
from distill3r_core.data.manifest_cells import Order
from distill3r_core.io.images import media, media_kinds
from distill3r_core.io.images.inputs import natural_key

_NUMBER = re.compile(r"(\d+)")
_LOOP = "a link that leads to itself"


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
            found.refused.append(Refused(path, "its name is not valid UTF-8", is_frame=True))
        elif entry.is_file():
            found.files.append(path)
        elif is_image and entry.is_symlink():
            found.refused.append(Refused(path, "a link that leads nowhere", is_frame=True))
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
