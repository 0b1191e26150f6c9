"""Images that show nothing: a lens cap, a frame between two clips, an empty canvas."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from distill3r_core.errors import ImageError

_CELLS = 8  # a side: the image is averaged over so many, which takes noise out
_LARGEST_SPREAD = 3  # gray levels between two cells
_LARGEST_NOISE = 8.0  # gray levels, standard deviation within the image


Color = tuple[int, int, int]


def blank_color(pixels: UInt8[np.ndarray, "H W 3"]) -> Color | None:
    """The color of an image that is of one color but for noise; None where it shows something."""
    # The spread first: it decides nearly every image, and takes no array of floats.
    cells = np.asarray(Image.fromarray(pixels).resize((_CELLS, _CELLS), Image.Resampling.BOX))
    spread = cells.max(axis=(0, 1)).astype(int) - cells.min(axis=(0, 1))
    if spread.max() > _LARGEST_SPREAD or pixels.std(axis=(0, 1)).max() > _LARGEST_NOISE:
        return None
    red, green, blue = np.rint(pixels.mean(axis=(0, 1))).astype(int).tolist()
    return red, green, blue


def blank_reason(color: Color) -> str:
    """Why an image of one color is left out."""
    return f"blank: all of it is of one color (about {', '.join(map(str, color))})"


def check_not_blank(pixels: UInt8[np.ndarray, "H W 3"]) -> None:
    """Refuse an image that is of one color, but for the noise of a sensor.

    Raises:
        ImageError: Names the color. The message is the reason alone.
    """
    if (color := blank_color(pixels)) is not None:
        raise ImageError(blank_reason(color))


def blank_frames(colors: Sequence[Color | None]) -> list[int]:
    """The frames of a video that are left out because they are blank.

    Those are the blank ones among others, or all of a video that is black from end to end. A video
    whose frames are of one color each, but not of the same, is a test pattern and stays whole.

    Args:
        colors: `blank_color` of every frame.
    """
    blank = [color for color in colors if color is not None]
    changes = bool(blank) and int(np.ptp(blank, axis=0).max()) > _LARGEST_SPREAD
    if len(blank) == len(colors) and changes:
        return []
    return [index for index, color in enumerate(colors) if color is not None]
