"""What one file is: an image or a video by name and first bytes, gray or measured by pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from distill3r_core.errors import ImageError
from distill3r_core.files import open_file
from distill3r_core.io.images.decode import read_header, read_image

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
UNREAD_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("nef", "cr2", "cr3", "arw", "dng", "raf", "orf", "rw2", "pef", "srw"),
        *("exr", "hdr", "jxl", "psd"),
    )
)
# Files that are known to be something else, and are not opened to find out.
_OTHER_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("txt", "json", "jsonl", "csv", "yaml", "yml", "xml", "toml", "md", "log", "html", "xmp"),
        *("npy", "npz", "h5", "bin", "pfm", "ply", "glb", "obj", "mtl", "pcd", "db", "zip", "aae"),
        *("pt", "pth", "ckpt", "safetensors", "mdb", "py", "sh", "ini", "cfg", "wav", "mp3", "m4a"),
    )
)
SAMPLED = 3  # files of a folder whose content is looked at


def media_kind(path: Path) -> MediaKind | None:
    """Whether a file is an image or a video: by its suffix in any case, else by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in _OTHER_SUFFIXES or suffix in UNREAD_SUFFIXES:
        return None
    try:
        with open_file(path) as file:
            return _kind_of_bytes(file.read(400))
    except OSError:
        return None


def is_measured(path: Path) -> bool:
    """Whether an image holds 16-bit gray or floating-point values, as sensors write them."""
    if path.suffix.lower() not in (".png", ".tif", ".tiff", ".pgm"):
        return False
    header = read_header(path)
    return header is not None and (header[0].startswith("I") or header[0] == "F")


def all_gray(images: Sequence[Path]) -> bool:
    """Whether images hold no color, by the first few of them."""
    return all(_is_gray(path) for path in images[:SAMPLED])


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
