"""What was named on a command line, as an ordered list of images and videos."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import util
from pathlib import Path
from typing import Literal

from distill3r_core.errors import ExtraMissingError, ImageError, InputMissingError
from distill3r_core.io.images import folder_roles, media, media_kinds
from distill3r_core.io.images.scene_search import (
    display_path,
    folders_below,
    has_media,
    is_readable,
    pattern_below,
    scene_of,
    unwrapped,
    visible,
    way_to_scenes,
)
from distill3r_core.io.images.video import read_frames
from distill3r_core.report import Failure, Omission

_DEEPER = "in a folder of its own: name it, or take each folder as a scene by --each"
_MEDIA_SUFFIXES = media_kinds.IMAGE_SUFFIXES | media_kinds.VIDEO_SUFFIXES
_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class InputFile:
    """A file that gives one view, or the views of a video.

    Args:
        path: Path of the file.
        kind: What it is.
        mask: Image that is black where its pixels are to be ignored.
    """

    path: Path
    kind: Literal["image", "video"]
    mask: Path | None = None


@dataclass
class FoundInputs:
    """What inputs name.

    Args:
        sources: Images and videos, each once, in natural order of the path.
        failed: Files that look like an input and cannot be one.
        omitted: Files that are no input: masks, depth maps, videos of live photos and others.
        notes: Choices that were made, for the user.
    """

    sources: list[InputFile] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    omitted: list[Omission] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def natural_key(text: str) -> list[str | int]:
    """A sort key that counts: view2 before view10."""
    parts = _DIGITS.split(text.casefold())
    key: list[str | int] = [*parts]
    # Words and numbers take turns. Base 16: the same order, and of any length.
    key[1::2] = [int(digits, 16) for digits in parts[1::2]]
    return key


def find_inputs(inputs: Sequence[str]) -> FoundInputs:
    """The images and videos that folders, files and patterns name.

    A folder gives its images, hidden files and folders below it left out; it gives its videos
    where it has no image. Where it has neither, and just one folder in it holds photographs (beside
    depth maps, masks or smaller copies), that one is read. A folder without pictures in which there
    is just one folder (whatever files are beside it) stands for that one, unless its images are
    depth maps, masks or smaller copies. A file that is named is taken whatever its name.

    Args:
        inputs: Folders, files and glob patterns.

    Raises:
        InputMissingError: An input is not there, or names nothing that is an image or a video.
    """
    found = FoundInputs()
    sources: dict[Path, InputFile] = {}
    for text in inputs:
        named = _expand(text)
        sources |= {source.path.resolve(): source for source in named.sources}
        found.failed += named.failed
        found.omitted += named.omitted
        found.notes += named.notes
    found.sources = sorted(sources.values(), key=lambda source: natural_key(str(source.path)))
    return found


def scene_folders(inputs: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The folders that are a scene each, in natural order, and those without an image.

    Args:
        inputs: Folders and patterns. The folders in a folder are scenes where they hold images
            or videos; a folder in which none does is a scene itself.

    Raises:
        InputMissingError: An input is no folder, or there are no images in it.
    """
    folders: list[Path] = []
    empty: list[Path] = []
    for text in inputs:
        given = [Path(text)] if Path(text).is_dir() else _matches(text)
        roots = [path for path in given if path.is_dir()]
        if not roots:
            raise InputMissingError(f"no folder {text}", hint="--each takes folders of folders")
        for root in roots:
            below = folders_below(root)
            inside = [path for path in below if is_readable(path) and scene_of(path) is not None]
            inside = [path for path in inside if folder_roles.role_of_folder(path) is None]
            inside = [path for path in inside if folder_roles.role_by_itself(path) is None]
            if not inside and not has_media(root):
                raise InputMissingError(
                    f"neither {root} nor a folder in it holds pictures",
                    hint=f"name deeper ones by a pattern: {pattern_below(root, 2)}",
                )
            folders += inside or [root]
            empty += [path for path in below if path not in inside] if inside else []
    once = {folder.resolve(): folder for folder in reversed(folders)}
    return sorted(once.values(), key=lambda path: natural_key(str(path))), empty


def require_extras(sources: Sequence[InputFile]) -> None:
    """Refuse inputs that need a package which is not installed, before any work.

    Raises:
        ExtraMissingError: Names the first such file and the command that adds the package.
    """
    for source in sources:
        if source.kind == "video" and util.find_spec("av") is None:
            raise ExtraMissingError(
                f"{source.path} is a video, which needs the extra 'video'",
                hint="pip install 'distill3r[video]'",
            )
        heic = source.path.suffix.lower() in _HEIC_SUFFIXES
        if heic and util.find_spec("pillow_heif") is None:
            raise ExtraMissingError(
                f"{source.path} is a HEIC picture, which needs the extra 'heic'",
                hint="pip install 'distill3r[heic]'",
            )


def evenly(count: int, most: int | None) -> list[int]:
    """At most `most` numbers of 0..count-1, evenly spread, the first and the last among them."""
    if most is None or count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _expand(text: str) -> FoundInputs:
    path = Path(text)
    if path.is_dir():
        return _from_folder(path)
    if path.exists():
        if not path.is_file():
            return FoundInputs(failed=[Failure(display_path(path), "not a file")])
        return FoundInputs(sources=_with_masks([_source(path)]))
    matches = [match for match in _matches(text) if match.is_file()]
    if not matches:
        what = "nothing matches" if glob.has_magic(text) else "no such file or folder:"
        raise InputMissingError(f"{what} {text}")
    found = FoundInputs()
    folders = dict.fromkeys(match.parent for match in matches)
    for folder in folders:
        here = [match for match in matches if match.parent == folder]
        # Whoever wants the images of such a folder names it.
        role = None if folder.name in Path(text).parts else folder_roles.role_of_folder(folder)
        if role is not None:
            found.omitted += [Omission(display_path(path), role) for path in here]
            continue
        files = media.sort_files(here)
        found.sources += _with_masks(
            [_source(path) for path in (*files.images, *files.videos)], files
        )
        _add_left_out(found, files)
    if not found.sources:
        raise InputMissingError(f"nothing that matches {text} is an image or a video")
    return found


def _from_folder(folder: Path) -> FoundInputs:
    given, folder = folder, unwrapped(folder)
    scene = scene_of(folder)
    if scene is None:
        hint = way_to_scenes(folder)
        looked = " ".join(sorted(_MEDIA_SUFFIXES))
        raise InputMissingError(
            f"no pictures in {given}" + ("" if hint else f" (looked for {looked})"), hint=hint
        )
    found = FoundInputs()
    if scene != given:
        found.notes.append(f"the images are those of {display_path(scene)}")
    files = media.sort_files(sorted(path for path in visible(scene.iterdir()) if path.is_file()))
    _add_left_out(found, files)
    found.failed += [
        Failure(display_path(path), "not a file, or a link to none")
        for path in visible(scene.iterdir())
        if path.suffix.lower() in media_kinds.IMAGE_SUFFIXES
        and not path.is_file()
        and not path.is_dir()
    ]
    if not files.images:
        found.sources = [_source(path) for path in files.videos]
        return found
    found.failed += [Failure(display_path(video), _why_not(video)) for video in files.videos]
    found.sources = _with_masks([_source(path) for path in files.images], files)
    used = {source.mask.resolve() for source in found.sources if source.mask is not None}
    for other in folders_below(folder):
        if other == scene or not is_readable(other):
            continue
        reason = folder_roles.role_of_folder(other) or _DEEPER
        found.omitted += [
            Omission(display_path(path), reason)
            for path in visible(sorted(other.iterdir()))
            if path.suffix.lower() in _MEDIA_SUFFIXES and path.resolve() not in used
        ]
    return found


def _add_left_out(found: FoundInputs, files: media.FolderMedia) -> None:
    found.omitted += [
        Omission(display_path(item.path), item.reason) for item in (*files.left_out, *files.others)
    ]
    found.failed += [Failure(display_path(path), media.UNREAD) for path in files.unread]


def _with_masks(
    sources: Sequence[InputFile], files: media.FolderMedia | None = None
) -> list[InputFile]:
    """The images, each with its mask: one beside it, or one in a folder of masks."""
    masks = dict(files.masks) if files is not None else {}
    for folder in dict.fromkeys(source.path.parent for source in sources):
        of_folder = [source.path for source in sources if source.path.parent == folder]
        masks = {**folder_roles.masks_beside(folder, of_folder), **masks}
    return [replace(source, mask=masks.get(source.path)) for source in sources]


def _why_not(video: Path) -> str:
    """Why a video among images is left out: one that cannot be read is not worth naming."""
    if util.find_spec("av") is not None:
        try:
            next(read_frames(video, fps=None))
        except ImageError as error:
            return error.message
    return "a video among pictures: name it alone to read it"


def _matches(pattern: str) -> list[Path]:
    # Path.glob refuses absolute patterns.
    return visible(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207


def _source(path: Path) -> InputFile:
    return InputFile(path, "video" if media_kinds.media_kind(path) == "video" else "image")
