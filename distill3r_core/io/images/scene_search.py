"""Which folder below a named one holds its photographs, and what to type where none does."""

import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from distill3r_core.io.images.folder_roles import (
    photograph_folders,
    role_by_itself,
    role_of_folder,
)
from distill3r_core.io.images.media_kinds import IMAGE_NAMES, VIDEO_SUFFIXES, media_kind

_MOST_UNWRAPPED = 8  # folders in each other; links may form a loop
# What a hint may cost: a wrong argument can be a home folder, or a slow network share.
_HINT_LEVELS = 4  # below the named folder
_HINT_ENTRIES = 20_000  # names of files and folders that are looked at
_HINT_SCENES = 50  # folders whose images are looked at
_UNTYPABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MEDIA_NAMES = (*IMAGE_NAMES, *sorted(VIDEO_SUFFIXES))


def scene_of(folder: Path) -> Path | None:
    """The folder itself where it has images or videos, else the only one in it that has."""
    if has_media(folder):
        return folder
    inside = photograph_folders(folder)
    if len(inside) != 1 or role_by_itself(inside[0]) is not None:
        return None
    # A scene that lies in folders by kind has another kind beside its photographs.
    others = [path for path in folders_below(folder) if path != inside[0]]
    return inside[0] if any(role_of_folder(path) is not None for path in others) else None


def unwrapped(folder: Path) -> Path:
    """The folder that a folder without pictures stands for: the only one in it, and so on.

    So unpacked archives and recordings of one sequence (`kitchen/seq-01`) are read, whatever files
    lie beside that folder. Depth maps, masks and smaller copies are never stepped into.
    """
    for _ in range(_MOST_UNWRAPPED):
        below = [] if has_media(folder) else folders_below(folder)
        if len(below) != 1 or not is_readable(below[0]) or role_by_itself(below[0]) is not None:
            break
        folder = below[0]
    return folder


def way_to_scenes(folder: Path) -> str | None:
    """What to type where the pictures lie in folders below this one; None where none are found.

    The search is a hint's: it follows no links, ends at bounds of depth and number, and a folder
    that cannot be listed is one without pictures.
    """
    search = _Search()
    level = search.folders(folder)
    scenes = [path for path in level if search.is_scene(path)]
    if len(scenes) == 1:
        return f"{shlex.quote(display_path(scenes[0]))} has pictures: name that folder"
    if scenes:
        number = f"at least {len(scenes)}" if search.ended else str(len(scenes))
        return f"{number} folders in it have pictures: add --each"
    for path in level:
        if (role := search.role(path)) is not None:
            shown = shlex.quote(display_path(path))
            return f"{shown} holds {role}: name that folder to read it all the same"
    for depth in range(2, _HINT_LEVELS + 1):
        level = [path for above in level for path in search.folders(above)]
        if any(search.is_scene(path) for path in level):
            return f"name the folders below it by a pattern: {pattern_below(folder, depth)} --each"
    return None


def pattern_below(folder: Path, levels: int) -> str:
    """The pattern of all folders so many levels below one, quoted for a shell.

    Characters that no one can type, and bytes that are no UTF-8, become `?`, which stands for any.
    """
    return shlex.quote(_UNTYPABLE.sub("?", glob.escape(str(folder))) + levels * "/*")


def display_path(path: Path) -> str:
    """A path as text that any file can hold: bytes that are no UTF-8 are replaced."""
    return os.fsencode(path).decode(errors="replace")


def has_media(folder: Path) -> bool:
    """Whether there is an image or a video in a folder itself; looks no further than the first."""
    return any(media_kind(path) for path in folder.iterdir() if _is_shown(path) and path.is_file())


def folders_below(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones."""
    return sorted(path for path in visible(folder.iterdir()) if path.is_dir())


def is_readable(folder: Path) -> bool:
    """Whether a folder can be listed and entered."""
    return os.access(folder, os.R_OK | os.X_OK)


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths without those of hidden files."""
    return [path for path in paths if _is_shown(path)]


class _Search:
    """A search for scenes that ends when it has looked at a number of names and folders."""

    def __init__(self) -> None:
        self._entries = _HINT_ENTRIES
        self._scenes = _HINT_SCENES

    @property
    def ended(self) -> bool:
        """Whether there may be more than what was looked at."""
        return self._entries <= 0 or self._scenes < 0

    def folders(self, folder: Path) -> list[Path]:
        """The folders in a folder, without links and hidden ones, as far as the search goes."""
        return sorted(folder / e.name for e in self._listed(folder) if _is_own_folder(e))

    def is_scene(self, folder: Path) -> bool:
        """Whether a folder is a scene of photographs, as far as the search goes."""
        if not self._has_media_names(folder) or not self._may_look():
            return False
        try:
            return scene_of(folder) is not None and role_by_itself(folder) is None
        except OSError:  # it has gone meanwhile, or a mount does not answer
            return False

    def role(self, folder: Path) -> str | None:
        """Why the images in a folder are no photographs, as far as the search goes."""
        return role_by_itself(folder) if self._may_look() else None

    def _may_look(self) -> bool:
        self._scenes -= 1
        return self._scenes >= 0

    def _has_media_names(self, folder: Path) -> bool:
        """Whether a folder or one in it has a file with the suffix of an image or a video."""
        if any(_is_media_name(entry) for entry in self._listed(folder)):
            return True
        return any(
            _is_media_name(entry) for below in self.folders(folder) for entry in self._listed(below)
        )

    def _listed(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, max(self._entries, 0)):
                    self._entries -= 1
                    if not entry.name.startswith("."):
                        yield entry
        except OSError:
            return


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder and no link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _is_media_name(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(_MEDIA_NAMES)
