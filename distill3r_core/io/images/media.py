"""What a file or a folder holds: images, videos, masks, depth maps, smaller copies.

The one place that decides it, by name and content, for every command that takes a folder.
"""

import collections
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from distill3r_core.errors import ImageError
from distill3r_core.files import open_to_read
from distill3r_core.io.images.decode import read_header, read_image
from distill3r_core.io.images.video import opens

MediaKind = Literal["image", "video"]

IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "bmp", "dib"),
        *("tif", "tiff", "gif", "ppm", "pgm", "pbm", "pnm", "tga", "jp2", "j2k", "jpx"),
        *("heic", "heif", "hif", "avif"),
    )
)
IMAGE_NAMES = tuple(sorted(IMAGE_SUFFIXES))  # for `str.endswith`, of names in lower case
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "mov", "m4v", "avi", "mkv", "webm", "mts", "m2ts", "mpg", "mpeg", "3gp", "3g2"),
        *("wmv", "flv", "mxf", "ogv", "qt", "vob", "insv", "lrv", "h264", "h265", "hevc"),
    )
)
# Images of formats that are not read.
_UNREAD_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("nef", "cr2", "cr3", "arw", "dng", "raf", "orf", "rw2", "pef", "srw"),
        *("exr", "hdr", "jxl", "psd"),
    )
)
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
# Files that are known to be something else, and are not opened to find out.
_OTHER_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("txt", "json", "jsonl", "csv", "yaml", "yml", "xml", "toml", "md", "log", "html", "xmp"),
        *("npy", "npz", "h5", "bin", "pfm", "ply", "glb", "obj", "mtl", "pcd", "db", "zip", "aae"),
        *("pt", "pth", "ckpt", "safetensors", "mdb", "py", "sh", "ini", "cfg", "wav", "mp3", "m4a"),
    )
)
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

_DEPTH_NAME = re.compile(r"(^|[\W_])(depths?|depth_?maps?|disp|disparit(y|ies))($|[\W_])")
_MASK_NAME = re.compile(r"(^|[\W_])(masks?|mattes?|alphas?|segmentations?)($|[\W_])")
_LABEL_NAME = re.compile(
    r"(^|[\W_])(conf|confidences?|normals?|labels?|semantics?|instances?|panoptic|edges?)($|[\W_])"
)
_SMALL_NAME = re.compile(r"(^|[\W_])(thumbs?|thumbnails?|previews?|resized|small|lowres)($|[\W_])")
_ROLE_NAMES = (_DEPTH_NAME, _MASK_NAME, _LABEL_NAME, _SMALL_NAME)
_NUMBERED = re.compile(r"(?P<name>.+)_(?P<divisor>[2-9]|[1-9]\d)")  # images_4: a quarter the size
# `frame-000012.depth`, `IMG_12_mask`: what a file is of, and what of it.
_PART = re.compile(
    r"(?P<key>.+)[._-](?P<part>depth|depthmap|disp|disparity|mask|matte|alpha|masked)"
)
_COLOR_PART = re.compile(r"(?P<key>.+)[._-](color|colour|rgb|image)")
_DIGITS = re.compile(r"\d+")
_SAMPLED = 3  # files of a folder whose content is looked at
_SHARED = 0.5  # of names, from which one folder is made of the images of another
_ROUNDING = 2  # pixels by which a smaller copy may differ from the exact size


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


def media_kind(path: Path) -> MediaKind | None:
    """Whether a file is an image or a video: by its suffix in any case, else by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in _OTHER_SUFFIXES or suffix in _UNREAD_SUFFIXES:
        return None
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            return _kind_of_bytes(file.read(400))
    except OSError:
        return None


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
        elif suffix in _UNREAD_SUFFIXES:
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


def role_of_folder(folder: Path) -> str | None:
    """Why the images in a folder are no photographs; None where they are.

    They are not where a folder beside it, or the one that it lies in, has the photographs, and

    - its name says depth, and its images are gray or have the names of the photographs;
    - its name says mask, and its images are gray;
    - its name says labels, normals or confidence, and its images have the photographs' names;
    - they are 16-bit gray or floating-point, whatever its name;
    - its name says how much smaller they are (`images_4`) and they are, or it says thumbnails.
    """
    names = _image_names(folder)
    if not names:
        return None
    name = folder.name.casefold()
    if all(_is_measured(folder / image) for image in names[:_SAMPLED]):
        return DEPTH if any(_photographs_beside(folder)) else None
    if not any(rule.search(name) for rule in _ROLE_NAMES) and not _NUMBERED.fullmatch(folder.name):
        return None
    images = [folder / image for image in names]
    if _MASK_NAME.search(name):
        return MASK if _all_gray(images) and any(_photographs_beside(folder)) else None
    if _DEPTH_NAME.search(name):
        beside = list(_photographs_beside(folder))
        named_alike = any(_share(images, others) for others in beside)
        return DEPTH if beside and (named_alike or _all_gray(images)) else None
    if _LABEL_NAME.search(name):
        named_alike = any(_share(images, others) for others in _photographs_beside(folder))
        return LABELS if named_alike else None
    if (match := _NUMBERED.fullmatch(folder.name)) and _is_numbered_copy(folder, images, match):
        return SMALLER
    if _SMALL_NAME.search(name) and any(
        _share(images, others) and _is_smaller(images, others)
        for others in _photographs_beside(folder)
    ):
        return SMALLER
    return None


def masks_beside(
    folder: Path, images: Sequence[Path], *, mask_folders: dict[Path, list[Path]] | None = None
) -> dict[Path, Path]:
    """Masks of images in a folder of masks beside their folder, or in it, by image.

    A mask has the image's stem (`a.png` for `a.jpg`), or its whole name before its own suffix
    (`a.jpg.png`), or that followed by `_mask`.

    Args:
        folder: Folder of the images.
        images: Images in it.
        mask_folders: Folders of masks by the folder that they lie in, which are kept there for
            other folders of the same place: there may be thousands.
    """
    place = folder.resolve()
    known = {} if mask_folders is None else mask_folders
    if place.parent not in known:
        known[place.parent] = _folders_in(place.parent, _is_mask_name)
    names: dict[str, Path] = {}
    for other in (*_folders_in(place, _is_mask_name), *known[place.parent]):
        masks = images_in(other) if other != place else []
        if masks and _all_gray(masks):
            for path in masks:
                names.setdefault(_mask_key(path), path)
    found = {}
    for path in images if names else ():
        mask = names.get(path.name.casefold(), names.get(path.stem.casefold()))
        if mask is not None:
            found[path] = mask
    return found


def photograph_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder that hold photographs or videos."""
    return [
        path for path in _folders_in(folder) if _has_media(path) and role_of_folder(path) is None
    ]


def _sort_images(found: FolderMedia, images: Sequence[Path]) -> None:
    """Tell photographs from the masks, depth maps and copies beside them in one folder."""
    # Once each: folders may have a million images.
    stems = [path.stem.casefold() for path in images]
    keys = dict(zip(stems, images, strict=True))
    for path, stem in zip(images, stems, strict=True):
        if match := _COLOR_PART.fullmatch(stem):
            keys.setdefault(match["key"], path)
    digits = ["-".join(_DIGITS.findall(stem)) for stem in stems]  # `000012`, `depth000012`
    numbers = collections.Counter(digits)
    numbered = [
        path for path, number in zip(images, digits, strict=True) if number and numbers[number] > 1
    ]
    measured = {path for path in numbered if _is_measured(path)}
    if len(measured) == 1:  # a gray photograph may share a number with another one
        measured.clear()
    for path, stem in zip(images, stems, strict=True):
        match = _PART.fullmatch(stem)
        of = keys.get(match["key"]) if match else None
        if of is None and match and Path(match["key"]).suffix in IMAGE_SUFFIXES:
            of = keys.get(Path(match["key"]).stem)  # IMG_12.jpg.mask.png
        if match and of not in (None, path):
            part = match["part"]
            if part == "masked":
                found.left_out.append(LeftOut(path, MASKED_COPY))
                continue
            if part not in ("mask", "matte", "alpha"):
                found.left_out.append(LeftOut(path, DEPTH))
                continue
            if _all_gray([path]):
                found.masks[of] = path
                continue
        if path in measured:
            found.left_out.append(LeftOut(path, DEPTH))
            continue
        found.images.append(path)


def _kind_of_bytes(head: bytes) -> MediaKind | None:
    """The kind of a file that begins so, by the signatures of containers and image formats."""
    image_starts = (
        *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"),
        *(b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51"),
    )
    video_starts = (
        *(b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\x06\x0e+4"),
    )
    if head.startswith(image_starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[:2] == b"BM" and head[14:15] in (b"\x0c", b"\x28", b"\x38", b"\x6c", b"\x7c"):
        return "image"
    if head[4:8] == b"ftyp":
        still = head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heif", b"avif", b"avis")
        return "image" if still else "video"
    if head.startswith(video_starts) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    if head[4:8] in (b"moov", b"mdat", b"wide") or head[:4] == b"OggS":
        return "video"
    # MPEG transport streams: a sync byte every 188 bytes, or 192 with a time stamp before it.
    for start, step in ((0, 188), (4, 192)):
        marks = head[start::step]
        if len(marks) > 1 and set(marks[:2]) == {0x47}:
            return "video"
    return None


def _is_measured(path: Path) -> bool:
    """Whether an image holds 16-bit gray or floating-point values, as sensors write them."""
    if path.suffix.lower() not in (".png", ".tif", ".tiff", ".pgm"):
        return False
    header = read_header(path)
    return header is not None and (header[0].startswith("I") or header[0] == "F")


def _all_gray(images: Sequence[Path]) -> bool:
    """Whether images hold no color, by the first few of them."""
    return all(_is_gray(path) for path in images[:_SAMPLED])


def _is_gray(path: Path) -> bool:
    header = read_header(path)
    if header is None:
        return False
    if header[0] in ("1", "L", "LA", "I;16", "I", "F"):
        return True
    try:
        pixels = read_image(path).pixels
    except ImageError:
        return False
    return bool((pixels == pixels[..., :1]).all())


def _photographs_beside(folder: Path) -> Iterable[list[Path]]:
    """Images of the folder above and of those beside a folder, where they are photographs."""
    place = folder.resolve()
    for other in (place.parent, *_folders_in(place.parent)):
        name = other.name.casefold()
        if other == place or _DEPTH_NAME.search(name):
            continue
        if other != place.parent and (_MASK_NAME.search(name) or _LABEL_NAME.search(name)):
            continue
        images = images_in(other)
        if images and not all(_is_measured(path) for path in images[:_SAMPLED]):
            yield images


def _is_numbered_copy(folder: Path, images: Sequence[Path], match: re.Match[str]) -> bool:
    """Whether `images_4` holds the images of `images`, or of `images_2`, at a smaller size."""
    divisor = int(match["divisor"])
    larger = [(1, folder.with_name(match["name"]))]
    larger += [(n, folder.with_name(f"{match['name']}_{n}")) for n in range(2, divisor)]
    for other_divisor, other in larger:
        others = images_in(other) if other.is_dir() else []
        if others and _share(images, others):
            return _is_smaller(images, others, ratio=divisor / other_divisor)
    return False


def _is_smaller(
    images: Sequence[Path], others: Sequence[Path], *, ratio: float | None = None
) -> bool:
    """Whether the first image that both have is smaller here, by a ratio if one is given."""
    stems = {path.stem.casefold(): path for path in others}
    pairs = ((path, stems.get(path.stem.casefold())) for path in images)
    mine, other = next((pair for pair in pairs if pair[1] is not None), (None, None))
    if mine is None or other is None:
        return False
    small, large = read_header(mine), read_header(other)
    if small is None or large is None:
        return False
    if ratio is None:
        return max(small[1]) < max(large[1])
    return all(
        abs(side - whole / ratio) <= _ROUNDING
        for side, whole in zip(small[1], large[1], strict=True)
    )


def _share(images: Sequence[Path], others: Sequence[Path]) -> bool:
    """Whether at least half of the images have the stems of others."""
    stems = {path.stem.casefold() for path in others}
    return sum(_mask_key(path) in stems for path in images) >= _SHARED * len(images)


def _mask_key(path: Path) -> str:
    stem = path.stem.casefold()
    match = _PART.fullmatch(stem)
    return match["key"] if match else stem


def _is_mask_name(name: str) -> bool:
    folded = name.casefold()  # `depth_masks` says where depth is valid
    return bool(_MASK_NAME.search(folded)) and not _DEPTH_NAME.search(folded)


def images_in(folder: Path) -> list[Path]:
    """The images in a folder by their suffixes, whatever they show."""
    return [folder / name for name in _image_names(folder)]


def _image_names(folder: Path) -> list[str]:
    """Their names, which take a fraction of the time of paths."""
    names = _names(folder, os.DirEntry.is_file)
    return [name for name in names if name.lower().endswith(IMAGE_NAMES)]


def _has_media(folder: Path) -> bool:
    return any(media_kind(path) for path in _files_in(folder))


def _files_in(folder: Path) -> list[Path]:
    return _entries(folder, os.DirEntry.is_file)


def _folders_in(folder: Path, wanted: Callable[[str], bool] = bool) -> list[Path]:
    """Folders in a folder whose names are wanted."""
    return _entries(folder, os.DirEntry.is_dir, wanted)


def _entries(
    folder: Path,
    is_kind: Callable[[os.DirEntry[str]], bool],
    wanted: Callable[[str], bool] = bool,
) -> list[Path]:
    """Entries of a kind in a folder, without hidden ones; none where it cannot be listed."""
    return [folder / name for name in _names(folder, is_kind) if wanted(name)]


def _names(folder: Path, is_kind: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if not entry.name.startswith(".") and is_kind(entry):
                        names.append(entry.name)
                except OSError:  # a link that leads to itself
                    continue
    except OSError:
        return []
    return sorted(names)
