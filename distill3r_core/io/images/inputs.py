"""What was named on a command line, as an ordered list of images and videos."""

import glob
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

from distill3r_core.errors import ExtraMissingError, ImageError, InputMissingError
from distill3r_core.io.images.decode import EXTENSIONS
from distill3r_core.io.images.video import read_frames
from distill3r_core.report import Failure

VIDEO_EXTENSIONS = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"})
_HEIC_EXTENSIONS = frozenset({".heic", ".heif"})
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class InputFile:
    """A file that gives one view, or the views of a video."""

    path: Path
    kind: Literal["picture", "video"]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """A sort key that counts: view2 before view10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.casefold())
        for part in _DIGITS.split(text)
        if part
    ]


def find_inputs(inputs: Sequence[str]) -> tuple[list[InputFile], list[Failure]]:
    """The images and videos that folders, files and patterns name, in natural order of the path.

    A folder gives its images by their extension, hidden files and folders below it left out; it
    gives its videos where it has no image. A file that is named is taken whatever its name.

    Args:
        inputs: Folders, files and glob patterns.

    Returns:
        The sources, each once, and what was left out though it looks like an input.

    Raises:
        InputMissingError: An input is not there, or names nothing that is an image or a video.
    """
    found: dict[Path, InputFile] = {}
    left_out: list[Failure] = []
    for text in inputs:
        named, ignored = _expand(text)
        found |= {source.path.resolve(): source for source in named}
        left_out += ignored
    return sorted(found.values(), key=lambda source: natural_key(str(source.path))), left_out


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
            below = [path for path in _visible(root.iterdir()) if path.is_dir()]
            inside = [path for path in below if os.access(path, os.R_OK | os.X_OK) and _media(path)]
            if not inside and not _media(root):
                raise InputMissingError(
                    f"neither {root} nor a folder in it holds pictures",
                    hint=f"name deeper ones by a pattern: '{root}/*/*'",
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
        heic = source.path.suffix.lower() in _HEIC_EXTENSIONS
        if heic and util.find_spec("pillow_heif") is None:
            raise ExtraMissingError(
                f"{source.path} is a HEIC picture, which needs the extra 'heic'",
                hint="pip install 'distill3r[heic]'",
            )


def spelled(path: Path) -> str:
    """A path as text that any file can hold: bytes that are no UTF-8 are replaced."""
    return os.fsencode(path).decode(errors="replace")


def evenly(count: int, most: int | None) -> list[int]:
    """At most `most` numbers of 0..count-1, evenly spread, the first and the last among them."""
    if most is None or count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [round(index * (count - 1) / (most - 1)) for index in range(most)]


def _expand(text: str) -> tuple[list[InputFile], list[Failure]]:
    path = Path(text)
    if path.is_dir():
        return _from_folder(path)
    if path.exists():
        if not path.is_file():
            return [], [Failure(spelled(path), "not a file")]
        return [_source(path)], []
    sources = [_source(match) for match in _matches(text) if match.is_file()]
    if not sources:
        what = "nothing matches" if glob.has_magic(text) else "no such file or folder:"
        raise InputMissingError(f"{what} {text}")
    return sources, []


def _from_folder(folder: Path) -> tuple[list[InputFile], list[Failure]]:
    media = _media(folder)
    if not media:
        below = sum(1 for path in _visible(folder.iterdir()) if path.is_dir() and _media(path))
        hint = f"{below} folders in it have pictures: add --each" if below else None
        looked = " ".join(sorted(EXTENSIONS | VIDEO_EXTENSIONS))
        raise InputMissingError(f"no pictures in {folder} (looked for {looked})", hint=hint)
    broken = [
        Failure(spelled(path), "not a file, or a link to none")
        for path in _visible(folder.iterdir())
        if path.suffix.lower() in EXTENSIONS and not path.is_file() and not path.is_dir()
    ]
    names = {source.path.name for source in media}
    depths = [source for source in media if _is_depth(source.path.name, names)]
    images = [source for source in media if source.kind == "picture" and source not in depths]
    videos = [source for source in media if source.kind == "video"]
    left_out = [Failure(spelled(depth.path), "a depth map, no photograph") for depth in depths]
    left_out += broken
    if not images:
        return videos, left_out
    left_out += [Failure(str(video.path), _why_not(video.path)) for video in videos]
    return images, left_out


def _is_depth(name: str, names: Collection[str]) -> bool:
    """Whether a file is the depth beside a picture: 000000.depth.png beside 000000.color.png."""
    stem, mark, _ = name.partition(".depth.")
    return bool(mark) and any(f"{stem}.color{suffix}" in names for suffix in EXTENSIONS)


def _why_not(video: Path) -> str:
    """Why a video among images is left out: one that cannot be read is not worth naming."""
    if util.find_spec("av") is not None:
        try:
            next(read_frames(video, fps=None))
        except ImageError as error:
            return error.message
    return "a video among pictures: name it alone to read it"


def _media(folder: Path) -> list[InputFile]:
    files = sorted(path for path in _visible(folder.iterdir()) if path.is_file())
    return [_source(path) for path in files if path.suffix.lower() in EXTENSIONS | VIDEO_EXTENSIONS]


def _visible(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if not path.name.startswith(".")]


def _matches(pattern: str) -> list[Path]:
    # Path.glob refuses absolute patterns.
    return _visible(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207


def _source(path: Path) -> InputFile:
    video = path.suffix.lower() in VIDEO_EXTENSIONS
    return InputFile(path, "video" if video else "picture")
