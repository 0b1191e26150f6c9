"""Images in: upright sRGB pixels from whatever a camera or a program wrote, or the reason why not.

A file is judged by its content, not by its name. Nothing is substituted: an image that cannot be
decoded whole is refused.
"""

import functools
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError

from distill3r_core.errors import ImageError
from distill3r_core.files import open_file, read_file, replacing
from distill3r_core.io.images.color import CodedColor, coded_to_srgb, managed
from distill3r_core.system.machine_memory import available_memory

MIN_SIDE = 14  # one patch of the student's encoder
PNG_LEVEL = 3  # twice as fast as the default for 4 % more bytes
MAX_PIXELS = 178_956_970  # Pillow's own bound; a header that claims more is a bomb

# Formats by name: Pillow would also start Ghostscript for PostScript that is named .jpg.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF", "HEIF", "JPEG2000")
# TGA files have no signature: almost any bytes may pass for one, so the name has to say so.
_FORMATS_BY_SUFFIX = {".tga": "TGA"}
_ORIENTATION, _EXIF, _FOCAL_35MM = 0x0112, 0x8769, 0xA405
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise on bytes that are not what they claim to be.
_DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error),
    TypeError,  # a TIFF that does not say how large it is
)
_UNCHECKED_PIXELS = 1 << 24  # decoded without a look at the free memory
# Pixels that a file of few bytes may have, and those of a byte in a larger one. A blank photograph
# has a few hundred; masks are often blank, and take less memory.
_FEW_BYTES, _PER_BYTE = 1 << 23, 1000
_FEW_BYTES_PLAIN, _PER_BYTE_PLAIN = 1 << 24, 2000
_PLAIN = ("1", "L", "P")
_MAX_SCANS = 64  # of a progressive JPEG, each a pass over all pixels; encoders make about ten
# A marker of a JPEG that has a length, or ends the image: neither data of a scan nor a restart.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_SCAN, _END = b"\xda", b"\xd9"
_BYTES_PER_PIXEL = 16  # while an image is decoded: as stored, with alpha, in RGB, upright
_DECODERS = os.cpu_count() or 1
_OPAQUE = 128  # alpha from which a pixel counts
_warnings_lock = threading.Lock()


@dataclass(frozen=True)
class DecodedImage:
    """An image as a person sees it.

    Args:
        pixels: sRGB, orientation applied.
        exif_focal_35mm: Focal length in millimeters of 35 mm film, where the camera wrote one:
            `f = exif_focal_35mm * max(H, W) / 36` pixels.
        notes: What was decided in reading it ("animated: the first of 3 frames").
        mask: False where the image is transparent; None where it is opaque throughout.
        orientation: EXIF orientation of the file, 1 where it has none; `pixels` are upright.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    exif_focal_35mm: float | None
    notes: tuple[str, ...] = ()
    mask: Bool[np.ndarray, "H W"] | None = None
    orientation: int = 1


def read_image(path: Path, *, least_side: int = MIN_SIDE) -> DecodedImage:
    """Decode one image.

    16-bit gray is scaled by 1/257, transparency is laid on white, and of an animation the first
    frame is taken; the last two are said in `notes`. Of a HEIC file it is the primary image. Colors
    are brought to sRGB by the embedded ICC profile (`color.managed`).

    Raises:
        ImageError: The image cannot be used. The message is the reason alone: the caller knows
            the path and names it.
    """
    try:
        if not path.is_file():
            raise ImageError("no such file" if not path.exists() else "not a file")
        with _open(path) as image:
            # Before decoding: a line of 10^8 pixels would take all memory and be refused after it.
            check_header(image, path.stat().st_size, least_side=least_side)
            if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
                _check_scans(read_file(path))
            return _decode(image)
    except UnidentifiedImageError as error:
        raise ImageError(_why_unknown(path)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"claims more than {MAX_PIXELS} pixels") from error
    except _DECODE_ERRORS as error:
        raise ImageError(_reason(error)) from error


def decode_opened(image: Image.Image) -> DecodedImage:
    """Decode an image that a caller has opened with Pillow, as `read_image` decodes a file.

    Raises:
        ImageError: The image cannot be used. The message is the reason alone.
    """
    try:
        check_size((image.height, image.width))
        return _decode(image)
    except _DECODE_ERRORS as error:
        raise ImageError(_reason(error)) from error


def _decode(image: Image.Image) -> DecodedImage:
    notes = _frame_notes(image)
    stored_orientation, _ = _exif(image)
    image.load()
    # After loading: Pillow turns a TIFF upright itself while it loads it.
    orientation, focal = _exif(image)
    rgb, alpha = _as_rgb(image, notes)
    if orientation in _TURNS:
        rgb = rgb.transpose(_TURNS[orientation])
        alpha = None if alpha is None else alpha.transpose(_TURNS[orientation])
    mask = None if alpha is None else np.asarray(alpha) >= _OPAQUE
    return DecodedImage(
        np.array(rgb),
        focal,
        tuple(notes),
        mask=None if mask is None or mask.all() else mask,
        orientation=stored_orientation if stored_orientation in _TURNS else 1,
    )


def check_header(image: Image.Image, length: int, *, least_side: int = MIN_SIDE) -> None:
    """Refuse an image by its header, before its pixels are allocated.

    Args:
        image: As it is opened, not yet decoded.
        length: Bytes of its file.
        least_side: Rows and columns that it has to have.

    Raises:
        ImageError: It is too small, claims more pixels than its bytes can mean, or needs more
            memory than is free.
    """
    check_size((image.height, image.width), least_side=least_side)
    count = image.height * image.width
    is_plain = image.mode in _PLAIN and "transparency" not in image.info
    few, per_byte = (_FEW_BYTES_PLAIN, _PER_BYTE_PLAIN) if is_plain else (_FEW_BYTES, _PER_BYTE)
    if count > max(few, per_byte * length):
        way = "; a mask of that size is read as gray PNG" if image.format == "WEBP" else ""
        raise ImageError(f"claims {image.width}x{image.height} pixels in a few bytes{way}")
    if count <= _UNCHECKED_PIXELS:
        return
    # Other threads decode at the same time, as large ones as this.
    needed, free = _BYTES_PER_PIXEL * count * _DECODERS, available_memory()
    if needed > free:
        raise ImageError(
            f"has {image.width}x{image.height} pixels; decoding {_DECODERS} such images at once "
            f"takes {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        )


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG of many scans, which takes minutes in a few kilobytes.

    Raises:
        ImageError: It has more than any encoder makes.
    """
    at, scans = 0, 0
    # Bytes that are no marker are passed over, as the decoder does.
    while (found := _MARKER.search(data, at)) and found[1] != _END:
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        scans += found[1] == _SCAN
    if scans > _MAX_SCANS:
        raise ImageError(f"is a JPEG of {scans} scans; the most is {_MAX_SCANS}")


def read_header(path: Path) -> tuple[str, tuple[int, int]] | None:
    """Pillow's mode and (rows, columns) of an image as it is stored; None: not readable."""
    try:
        with _open(path) as image:
            return image.mode, (image.height, image.width)
    except (Image.DecompressionBombError, *_DECODE_ERRORS):
        return None


def check_size(size: tuple[int, ...], *, least_side: int = MIN_SIDE) -> None:
    """Refuse an image of (rows, columns) that has no room for one patch.

    Raises:
        ImageError: Says the size and the least size.
    """
    if min(size) < least_side:
        raise ImageError(f"too small: {size[1]}x{size[0]} pixels, the least is {least_side} a side")


def write_image(path: Path, pixels: UInt8[np.ndarray, "H W *channels"]) -> None:
    """Write RGB or gray pixels in the format of the name's extension, whole or not at all."""
    with replacing(path) as beside:
        Image.fromarray(pixels).save(beside, compress_level=PNG_LEVEL)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what Pillow warns of: metadata that it cannot read, and many pixels."""
    # The switch belongs to the process.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """The undecoded image: the first frame, or the primary image of a HEIC file."""
    formats = _known_formats()
    if (named := _FORMATS_BY_SUFFIX.get(path.suffix.lower())) is not None:
        formats = (*formats, named)
    # Opened here: of a path, Pillow makes room for as many bytes as the file says.
    with open_file(path) as file:
        with quiet():
            image = Image.open(file, formats=formats)
            if image.format != "HEIF":  # it has opened its primary image
                image.seek(0)
        with image:
            yield image


def _frame_notes(image: Image.Image) -> list[str]:
    if image.format == "TIFF":  # counting its pages reads them all
        with quiet():
            try:
                image.seek(1)
            except EOFError:
                return []
            image.seek(0)
        return ["the first of several pages"]
    frames = getattr(image, "n_frames", 1)
    # A JPEG with several images (MPO) holds previews or a second eye, no animation.
    if frames == 1 or image.format == "MPO":
        return []
    if image.format == "HEIF":
        return [f"the primary one of {frames} images"]
    return [f"animated: the first of {frames} frames"]


def _exif(image: Image.Image) -> tuple[int, float | None]:
    """Orientation (1 where unknown) and 35 mm focal length; a corrupt block counts as none."""
    try:
        with quiet():
            tags = image.getexif()
            orientation = tags.get(_ORIENTATION, 1)
            focal = tags.get_ifd(_EXIF).get(_FOCAL_35MM)
        focal = None if focal is None else float(focal)
    except (*_DECODE_ERRORS, ZeroDivisionError):
        return 1, None
    usable = focal is not None and 0 < focal < float("inf")
    return (orientation if isinstance(orientation, int) else 1), (focal if usable else None)


def _as_rgb(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """The image in sRGB, and its alpha channel where it has one that is not opaque."""
    mode = image.mode
    if mode == "F":
        raise ImageError("floating-point values, not a color picture")
    if mode.startswith("I"):
        values = np.asarray(image)
        if mode == "I" and (values.min() < 0 or values.max() > 65535):
            raise ImageError("32-bit integers, not a color picture")
        gray = np.rint(values.astype(np.float32) / 257).astype(np.uint8)
        return _managed(Image.fromarray(gray), image.info, notes), None
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        alpha = layer.getchannel("A")
        if alpha.getextrema() != (255, 255):
            notes.append("transparent parts laid on white")
        if "icc_profile" in image.info or "nclx_profile" in image.info:
            # A profile of a gray image holds for its gray values.
            plain = layer.getchannel("R") if mode in ("LA", "La") else layer.convert("RGB")
            layer = _managed(plain, image.info, notes).convert("RGBA")
            layer.putalpha(alpha)
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB"), alpha
    plain = image if mode in ("RGB", "L", "CMYK") else image.convert("RGB")
    return _managed(plain, image.info, notes), None


def _managed(image: Image.Image, info: Mapping[Any, Any], notes: list[str]) -> Image.Image:
    """An RGB, L or CMYK image as sRGB, by its profile or its color description."""
    profile, described = info.get("icc_profile"), info.get("nclx_profile")
    if isinstance(profile, bytes) and profile:
        try:
            return managed(image, profile) or image.convert("RGB")
        except ValueError as error:
            notes.append(f"its color profile is not used: {error}")
    elif isinstance(described, Mapping) and image.mode == "RGB":
        color = CodedColor(
            int(described.get("color_primaries", 2)),
            int(described.get("transfer_characteristics", 2)),
        )
        if (name := color.name) is not None:
            if color.is_hdr:
                notes.append(f"{name}, brought to sRGB")
            return Image.fromarray(coded_to_srgb(257 * np.asarray(image, np.uint16), color))
    return image.convert("RGB")


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Those of `_FORMATS` that this Pillow reads."""
    if util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _why_unknown(path: Path) -> str:
    with open_file(path) as file:
        head = file.read(16)
    if not head:
        return "empty file"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heif"):
        return "HEIC needs an extra: pip install 'distill3r[heic]'"
    return "not a picture, or its header is damaged"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"damaged: {error}" if str(error) else f"damaged: {type(error).__name__}"
