"""Masks of images: which pixels count, by a mask file, an alpha channel, or both."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import DecodedImage, read_image, write_image

_HALF = 128
_ASPECT_SLACK = 0.02  # by which the shapes of a mask and its image may differ, of rounding


def read_mask(path: Path, size: tuple[int, ...]) -> Bool[np.ndarray, "H W"]:
    """The mask in a file, True where a pixel counts.

    Black pixels are to be ignored. Where the mask has values from half of white up it is cut at the
    half, as the rim of a compressed or smoothed mask is gray; else it numbers objects, and all but
    0 counts.

    Args:
        path: Path of the mask.
        size: Rows and columns of its image. A mask of another size and the same shape is resized.

    Raises:
        ImageError: Unreadable, of another shape, or without a pixel that counts. The message is the
            reason alone.
    """
    try:
        values = read_image(path, least_side=1).pixels.max(axis=-1)
    except ImageError as error:
        raise ImageError(f"its mask {path.name} cannot be used: {error}") from error
    mask = values >= (_HALF if values.max() >= _HALF else 1)
    if mask.shape != tuple(size):
        (rows, columns), (height, width) = mask.shape, size
        if abs(rows / columns * width / height - 1) > _ASPECT_SLACK:
            raise ImageError(
                f"its mask {path.name} is {columns}x{rows} pixels, the image {width}x{height}"
            )
        resized = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        mask = np.asarray(resized)
    return mask


MaskSource = str | Path | Bool[np.ndarray, "_ _"]


def mask_of(image: DecodedImage, given: MaskSource | None) -> Bool[np.ndarray, "H W"] | None:
    """Pixels of an image that count, by its alpha channel and its mask; None: all of them.

    Args:
        image: As it was decoded.
        given: Its mask, or the path of it; None where it has none.

    Raises:
        ImageError: The mask cannot be used, or no pixel is left. The message is the reason alone.
    """
    mask, size = image.mask, image.pixels.shape[:2]
    if given is not None:
        known = given if isinstance(given, np.ndarray) else read_mask(Path(given), size)
        if known.shape != size:
            raise ImageError(
                f"its mask is {known.shape[1]}x{known.shape[0]} pixels, the image "
                f"{size[1]}x{size[0]}"
            )
        mask = known if mask is None else mask & known
    if mask is None or mask.all():
        return None
    if not mask.any():
        raise ImageError("its mask leaves no pixel" if given is not None else "wholly transparent")
    return mask


def write_mask(path: Path, mask: Bool[np.ndarray, "H W"]) -> None:
    """Write a mask as an image that is white where pixels count, whole or not at all."""
    gray: UInt8[np.ndarray, "H W"] = np.where(mask, np.uint8(255), np.uint8(0))
    write_image(path, gray)
