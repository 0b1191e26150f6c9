"""What every layout makes of a folder: scenes of frames, still unread, and what it left out."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.manifest import Order, Split
from distill3r_core.io.images.decode import EXTENSIONS
from distill3r_core.io.images.inputs import VIDEO_EXTENSIONS, natural_key
from distill3r_core.types import Unit

_NUMBER = re.compile(r"(\d+)")
_OTHER_IMAGES = frozenset({".nef", ".cr2", ".cr3", ".arw", ".dng", ".raf", ".exr", ".jxl", ".psd"})


@dataclass(frozen=True, eq=False)
class Rig:
    """The cameras of an RGB-D source.

    Args:
        color: K of the color camera, centers at +0.5.
        size: Rows and columns of the pictures that K and `depth` belong to; None: of any.
        depth: K of the depth camera, where it is another one.
        color_from_depth: Moves points of the depth camera into the color camera's frame; the
            poses are then those of the depth camera.
        farthest: Depth beyond this is invalid.
        unit: Of depth (after its millimetres are converted) and pose.
    """

    color: Float[np.ndarray, "3 3"]
    size: tuple[int, int] | None = None
    depth: Float[np.ndarray, "3 3"] | None = None
    color_from_depth: Float[np.ndarray, "4 4"] | None = None
    farthest: float = float("inf")
    unit: Unit = "m"


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a scene and the files that belong to it; nothing has been read.

    Args:
        name: Unique in its scene; the processed picture is called so.
        color: The picture.
        number: The frame's own number, where the layout has one.
        depth: Of a layout that carries depth and pose; may not be there.
        pose: The same.
        rig: Its cameras; None where the layout has no calibration.
    """

    name: str
    color: Path
    number: int | None = None
    depth: Path | None = None
    pose: Path | None = None
    rig: Rig | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """Frames of one place, in order.

    Args:
        scene_id: Path parts that name it, from the root.
        folder: Where it lies, for messages.
        frames: In order.
        order: What the order was taken from.
        split: What the data set's own files say; None: nothing.
        is_test: Whether the data set's own files name it as test data.
    """

    scene_id: str
    folder: Path
    frames: tuple[Frame, ...]
    order: Order
    split: Split | None = None
    is_test: bool = True


@dataclass(frozen=True)
class Refused:
    """Something that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class Scan:
    """One data set, listed.

    Args:
        dataset: Its name.
        layout: Which layout read it.
        root: Where it lies.
        scenes: With their frames.
        policy_name: Whose sampling policy it has; the data set's own name where None.
        videos: Scenes whose frames are still to be taken out of a video: their id and the file.
        refused: Left out while listing.
        notes: Worth saying.
        fixed_split: The split was asked for, and is not filled up where a side stays empty.
        sample_frac: Its own fraction of scenes to keep.
        resize_max: Its own limit of the long edge.
    """

    dataset: str
    layout: str
    root: Path
    scenes: tuple[Scene, ...]
    policy_name: str | None = None
    videos: tuple[tuple[str, Path], ...] = ()
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    fixed_split: bool = False
    sample_frac: float | None = None
    resize_max: int | None = None


@dataclass
class Listing:
    """Entries of a folder that count, in natural order, and those that were left out."""

    pictures: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)  # links that lead to themselves; refused too
    others: list[str] = field(default_factory=list)  # extensions of images that are not read


def frame_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts `IMG_9` before `IMG_10`, and names of equal numbers and letters by their spelling."""
    return natural_key(name), name


def order_of(names: Iterable[str]) -> Order:
    """Whether the natural order of names is that of numbers in them."""
    return "number" if all(_NUMBER.search(name) for name in names) else "name"


def list_folder(folder: Path) -> Listing:
    """What lies in a folder. Hidden files and files of other kinds are not mentioned."""
    found = Listing()
    entries, trouble = _listed(folder)
    if trouble is not None:
        found.refused.append(Refused(folder, trouble))
    for entry in entries:
        path = folder / entry.name
        if _is_loop(entry):
            found.loops.append(path)
            found.refused.append(Refused(path, "a link that leads to itself"))
            continue
        suffix = path.suffix.lower()
        if entry.is_dir():
            found.folders.append(path)
        elif suffix in EXTENSIONS:
            _file_under(found, path, entry)
        elif suffix in VIDEO_EXTENSIONS:
            found.videos.append(path)
        elif suffix in _OTHER_IMAGES:
            found.others.append(suffix)
    return found


def entries_of(folder: Path) -> tuple[list[os.DirEntry[str]], str | None]:
    """Entries that are not hidden, in natural order, and why the folder could not be listed.

    Links that lead to themselves are left out: nothing can be asked of them.
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
    if not entry.is_symlink():  # spares most files a look
        return False
    try:
        entry.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def walk(root: Path, *, skip: Path | None = None) -> Iterator[tuple[Path, Listing]]:
    """Folders from `root` down, in natural order; each is visited once, whatever links say.

    Args:
        root: Where to begin.
        skip: A folder to leave out: that of the results.
    """
    seen = {skip.resolve()} if skip is not None else set()

    def visit(folder: Path) -> Iterator[tuple[Path, Listing]]:
        place = folder.resolve()
        if place in seen:
            return
        seen.add(place)
        listing = list_folder(folder)
        yield folder, listing
        for below in listing.folders:
            yield from visit(below)

    yield from visit(root)


def folders_below(
    root: Path, *, skip: Path | None, wanted: Callable[[Path], bool]
) -> tuple[list[Path], list[Refused]]:
    """The folders from `root` down that are `wanted`, and those that cannot be entered.

    Args:
        root: Where to begin.
        skip: A folder to leave out: that of the results.
        wanted: Whether a folder is a scene of the layout.
    """
    folders, refused = [], []
    for folder, listing in walk(root, skip=skip):
        # Of files, a layout refuses those that it would have read.
        refused += [item for item in listing.refused if item.path in (folder, *listing.loops)]
        if wanted(folder):
            folders.append(folder)
    return folders, refused


def scene_id_of(folder: Path, root: Path) -> str:
    """Path parts from the root that name a scene; the root's own name where it is the scene."""
    relative = folder.relative_to(root).as_posix()
    return root.resolve().name if relative == "." else relative


def dataset_name(root: Path) -> str:
    """The name of the data set in a folder."""
    return root.resolve().name or "root"


def shown(path: Path) -> str:
    """A path as text that every file and terminal takes."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _file_under(found: Listing, path: Path, entry: os.DirEntry[str]) -> None:
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        found.refused.append(Refused(path, "its name is not valid UTF-8"))
        return
    if entry.is_file():
        found.pictures.append(path)
    elif entry.is_symlink():
        found.refused.append(Refused(path, "a link that leads nowhere"))
