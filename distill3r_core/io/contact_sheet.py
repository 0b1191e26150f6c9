"""Contact sheets: images in reading order, small, each with a caption."""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_COLUMNS = 5
_CELL = (240, 180)  # columns and rows of pixels that an image has at most
_GAP, _LINE = 6, 18
_BACKGROUND, _INK = (250, 250, 250), (20, 20, 20)


def contact_sheet(
    images: Iterable[tuple[UInt8[np.ndarray, "_ _ 3"], str]], *, heading: str, count: int
) -> UInt8[np.ndarray, "H W 3"]:
    """Images with captions, five in a row.

    Args:
        images: RGB images of any size, with their captions. They are drawn one by one as they
            come, so only one of them is in memory.
        heading: A line above them.
        count: How many there are.
    """
    columns, rows = min(_COLUMNS, count), math.ceil(count / _COLUMNS)
    step = (_CELL[0] + _GAP, _CELL[1] + _LINE + _GAP)
    font = ImageFont.load_default(_LINE * 0.7)
    width = max(columns * step[0] + _GAP, math.ceil(font.getlength(heading)) + 2 * _GAP)
    sheet = Image.new("RGB", (width, rows * step[1] + _LINE + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 2), heading, fill=_INK, font=font)
    for number, (pixels, caption) in enumerate(images):
        left = _GAP + number % _COLUMNS * step[0]
        top = _LINE + _GAP + number // _COLUMNS * step[1]
        small = Image.fromarray(pixels)
        small.thumbnail(_CELL)
        sheet.paste(small, (left, top))
        draw.text((left, top + _CELL[1] + 1), caption, fill=_INK, font=font)
    return np.asarray(sheet)
