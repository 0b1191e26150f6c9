"""What the files of one folder are: images, videos, masks, depth maps.

With `folder_roles`, the one place that decides it, by name and content, for every command that
takes a folder.
"""

import collections
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill3r_core.io.images.media_kinds import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    all_gray,
    is_measured,
    media_kind,
)
from distill3r_core.io.images.video import opens

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
OTHER = "neither an image nor a video"
NO_SUFFIX = "an image by its content, but not by its name: name the file to read it"
LIVE = "the video of a live photo: a still has its name"
DEPTH = "a depth map, no photograph"
MASK = "a mask, no photograph"
MASK_WITHOUT_IMAGE = "a mask, but there is no image of its name"
LABELS = "a map of labels, normals or confidence, no photograph"
MASKED_COPY = "a masked copy of another image"
SMALLER = "a smaller copy of another image"
UNREAD = "an image format that is not read: convert it to JPEG or PNG"
RAW_OF_IMAGE = "a raw file beside the image of its name"

# `frame-000012.depth`, `IMG_12_mask`, `depth_0012`: what a file is of, and what of it.
_LABEL_PARTS = frozenset({"normals", "labels", "conf", "confidence", "semantic"})
# Before a number they may say what a photograph shows: `conf_0001.jpg`, of a conference.
_VAGUE_FIRST = frozenset({"conf", "confidence", "disp", "semantic"})
_MASK_PARTS = frozenset({"mask", "matte", "alpha"})
_PARTS = "|".join(
    ("depth", "depth_?map", "disp", "disparity", "masked", *_MASK_PARTS, *_LABEL_PARTS)
)
_PART = re.compile(rf"(?P<key>.+)[._-](?P<part>{_PARTS})")
_PART_FIRST = re.compile(rf"(?P<part>{_PARTS})[._-]?(?P<key>\d.*)")
_PART_ALONE = re.compile(rf"(?P<key>)(?P<part>{_PARTS})")  # `depth.png` beside `rgb.png`
_COLORS = "color|colour|rgb|image"
_COLOR_PART = re.compile(rf"(?P<key>.+)[._-]({_COLORS})")
_COLOR_FIRST = re.compile(rf"({_COLORS}|img|frame)[._-]?(?P<key>\d.*)")
_COLOR_ALONE = re.compile(rf"(?P<key>)({_COLORS})")
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class LeftOut:
    """A file that is not read because of what it is; nothing is wrong with it."""

    path: Path
    reason: str


@dataclass
class FolderMedia:
    """The files of one folder by what they are, each list in the order in which files came.

    Args:
        images: Photographs, or frames.
        videos: Videos.
        left_out: Images and videos that are no input.
        others: Files that are not named like an image or a video, and are no video.
        unread: Images of formats that are not read.
        masks: Mask of each image that has one.
    """

    images: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    others: list[LeftOut] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    masks: dict[Path, Path] = field(default_factory=dict)


def sort_files(files: Sequence[Path]) -> FolderMedia:
    """Sort the files of one folder by what they are. Files that do not exist are images too."""
    found = FolderMedia()
    images: list[Path] = []
    for path in files:
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
            continue
        kind = media_kind(path)
        if kind == "video":
            found.videos.append(path)
        elif suffix in UNREAD_SUFFIXES:
            found.unread.append(path)
        elif path.name.lower() not in _SYSTEM_FILES:
            found.others.append(LeftOut(path, OTHER if kind is None else NO_SUFFIX))
    _sort_images(found, images)
    if not found.videos and not found.unread:
        return found
    stems = {path.stem.casefold() for path in found.images}
    for path in [video for video in found.videos if video.stem.casefold() in stems]:
        if opens(path):  # else it stays, so that its reader says what is wrong with it
            found.videos.remove(path)
            found.left_out.append(LeftOut(path, LIVE))
    for path in [raw for raw in found.unread if raw.stem.casefold() in stems]:
        found.unread.remove(path)
        found.left_out.append(LeftOut(path, RAW_OF_IMAGE))
    return found


def mask_key(path: Path) -> str:
    """The stem of the image that a file would be the mask of, in lower case."""
    stem = path.stem.casefold()
    match = _part_of(stem)
    return (match["key"] if match else "") or stem


def _part_of(stem: str) -> re.Match[str] | None:
    """What a stem in lower case says its file is of (`key`), and what of it (`part`)."""
    return _PART.fullmatch(stem) or _PART_FIRST.fullmatch(stem) or _PART_ALONE.fullmatch(stem)


def _color_of(stem: str) -> re.Match[str] | None:
    """What a stem in lower case says its color image is of (`key`)."""
    return (
        _COLOR_PART.fullmatch(stem) or _COLOR_FIRST.fullmatch(stem) or _COLOR_ALONE.fullmatch(stem)
    )


def _sort_images(found: FolderMedia, images: Sequence[Path]) -> None:
    """Tell photographs from the masks, depth maps and copies beside them in one folder."""
    # Once each: folders may have a million images.
    stems = [path.stem.casefold() for path in images]
    keys = dict(zip(stems, images, strict=True))
    for path, stem in zip(images, stems, strict=True):
        if match := _color_of(stem):
            keys.setdefault(match["key"], path)
    digits = ["-".join(_DIGITS.findall(stem)) for stem in stems]  # `000012`, `depth000012`
    numbers = collections.Counter(digits)
    numbered = [
        path for path, number in zip(images, digits, strict=True) if number and numbers[number] > 1
    ]
    measured = {path for path in numbered if is_measured(path)}
    if len(measured) == 1:  # a gray photograph may share a number with another one
        measured.clear()
    for path, stem in zip(images, stems, strict=True):
        match = _part_of(stem)
        of = keys.get(match["key"]) if match else None
        if of is None and match and Path(match["key"]).suffix in IMAGE_SUFFIXES:
            of = keys.get(Path(match["key"]).stem)  # IMG_12.jpg.mask.png
        if match and of not in (None, path):
            part = match["part"]
            if part == "masked":
                found.left_out.append(LeftOut(path, MASKED_COPY))
                continue
            is_vague = match.re is _PART_FIRST and part in _VAGUE_FIRST
            if part not in _MASK_PARTS and (not is_vague or all_gray([path])):
                reason = LABELS if part in _LABEL_PARTS else DEPTH
                found.left_out.append(LeftOut(path, reason))
                continue
            if part in _MASK_PARTS and all_gray([path]):
                found.masks[of] = path
                continue
        if path in measured:
            found.left_out.append(LeftOut(path, DEPTH))
            continue
        found.images.append(path)
