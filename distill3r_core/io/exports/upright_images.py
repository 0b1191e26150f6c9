"""Copies of photographs that every reader shows the same way: upright, without an EXIF turn."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from distill3r_core.files import open_file, replacing
from distill3r_core.io.exports.image_metadata import without_metadata
from distill3r_core.io.images.color import is_srgb

_ORIENTATION = 0x0112
_QUALITY = 95


def write_upright(
    folder: Path,
    name: str,
    pixels: UInt8[np.ndarray, "H W 3"],
    *,
    source: Path | None,
    keep_exif: bool = False,
) -> Path:
    """An image under a name of its own, without a loss where the original can be copied.

    Args:
        name: Without extension.
        pixels: Upright and full-size.
        source: The file they were read from; None for video frames and pixels in memory.
        keep_exif: Keep the metadata of a file that is copied: place, time, camera, comments.
    """
    suffix = None if source is None else _copyable(source)
    if source is not None and suffix is not None:
        path = folder / f"{name}{suffix}"
        with replacing(path) as beside:
            data = source.read_bytes()
            beside.write_bytes(data if keep_exif else without_metadata(data))
        return path
    path = folder / f"{name}.jpg"
    with replacing(path) as beside:
        Image.fromarray(pixels).save(beside, quality=_QUALITY, subsampling=0)
    return path


def _copyable(source: Path) -> str | None:
    """The extension of a file that needs no turning and no conversion, else None."""
    with warnings.catch_warnings():
        # Metadata that Pillow frowns at: other readers may stumble over it as well.
        warnings.simplefilter("error")
        try:
            with open_file(source) as file, Image.open(file) as image:
                # A color that stands for "transparent" is white to us, to others what it is.
                plain = image.mode == "RGB" and "transparency" not in image.info
                plain = plain and getattr(image, "n_frames", 1) == 1
                if plain and (profile := image.info.get("icc_profile")):
                    plain = is_srgb(profile, image.mode)
                if plain and image.getexif().get(_ORIENTATION, 1) == 1:
                    return {"JPEG": ".jpg", "PNG": ".png"}.get(image.format or "")
        except (OSError, SyntaxError, ValueError, Warning):
            return None
    return None
