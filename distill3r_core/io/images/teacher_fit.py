"""How a teacher takes images: its resize, crop or padding, as a record and as pixels."""

import math
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.errors import ImageError
from distill3r_core.types import Placement

Size = tuple[int, int]  # rows and columns

_WHITE = (255, 255, 255)


@dataclass(frozen=True, config=config.STRICT)
class TeacherFit:
    """How images become a teacher's input.

    Args:
        long_edge: Long edge of the resized image, in pixels; None: the image keeps its size.
        square: The input is a square of side `long_edge`.
        multiple: Both sides of the input are multiples of this.
        reach: How the resized image reaches a square, or sides that are multiples: "crop" around
            its center, "pad" with white on both sides, or "resize" to the nearest ones without
            regard to the aspect ratio.
        square_to_4x3: A square image is cropped to 4:3, for networks that were trained on images
            of 4:3 and wider.
        resampling: "lanczos" shrinks by Lanczos and enlarges by bicubic interpolation, as
            DUSt3R's code does; "bicubic" does both by bicubic interpolation.
    """

    long_edge: int | None = None
    square: bool = False
    multiple: int = 1
    reach: Literal["crop", "pad", "resize"] = "crop"
    square_to_4x3: bool = False
    resampling: Literal["lanczos", "bicubic"] = "lanczos"

    def __post_init__(self) -> None:
        assert self.long_edge is not None or not self.square, "a square has a given side"


DUST3R_FIT = TeacherFit(long_edge=512, multiple=16, square_to_4x3=True)  # MASt3R and Fast3R too


def teacher_placement(source: Size, fit: TeacherFit) -> Placement:
    """Which part of an image the teacher's input shows, and its size.

    Args:
        source: Rows and columns of the image.
        fit: How the teacher takes it.

    Returns:
        The placement; with padding, its box reaches beyond the image.

    Raises:
        ImageError: Nothing is left of the image after the crop.
    """
    rows, columns = resized_size(source, fit)
    top, left, kept_rows, kept_columns = _window(rows, columns, fit)
    down, across = source[0] / rows, source[1] / columns
    box = (
        left * across,
        top * down,
        (left + kept_columns) * across,
        (top + kept_rows) * down,
    )
    return Placement(box=box, size=(kept_rows, kept_columns))


def visible_box(source: Size, fit: TeacherFit) -> tuple[float, float, float, float]:
    """The part of an image that the teacher sees: left, top, right, bottom, in its pixels."""
    left, top, right, bottom = teacher_placement(source, fit).box
    if fit.reach != "pad":
        return left, top, right, bottom
    height, width = (float(side) for side in source)
    return max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)


def prepare_image(
    pixels: UInt8[np.ndarray, "H W 3"], fit: TeacherFit
) -> tuple[UInt8[np.ndarray, "h w 3"], Placement]:
    """The image at the teacher's input size, and its placement in the source image.

    Raises:
        ImageError: Nothing is left of the image after the crop.
    """
    source = (pixels.shape[0], pixels.shape[1])
    placement = teacher_placement(source, fit)
    rows, columns = resized_size(source, fit)
    image = Image.fromarray(pixels)
    if fit.long_edge is not None or (rows, columns) != source:
        # DUSt3R's choice: bicubic also where nothing changes.
        shrinks = max(source) > max(rows, columns)
        lanczos = shrinks and fit.resampling == "lanczos"
        filter_ = Image.Resampling.LANCZOS if lanczos else Image.Resampling.BICUBIC
        image = image.resize((columns, rows), filter_)
    top, left, kept_rows, kept_columns = _window(rows, columns, fit)
    if fit.reach == "pad":
        canvas = Image.new("RGB", (kept_columns, kept_rows), _WHITE)
        canvas.paste(image, (-left, -top))
        return np.array(canvas), placement
    return np.array(image.crop((left, top, left + kept_columns, top + kept_rows))), placement


def resized_size(source: Size, fit: TeacherFit) -> Size:
    """Rows and columns after the resize, before crop or padding."""
    if fit.square and fit.reach == "resize":
        assert fit.long_edge is not None
        return fit.long_edge, fit.long_edge
    rows, columns = source
    if fit.long_edge is not None:
        long_edge = fit.long_edge
        if fit.square and fit.reach == "crop":  # the short edge fills the square
            long_edge = round(fit.long_edge * max(source) / min(source))
        rows, columns = (round(side * long_edge / max(source)) for side in source)
    if fit.reach == "resize":
        rows, columns = (
            fit.multiple * math.floor(side / fit.multiple + 0.5) for side in (rows, columns)
        )
    least = fit.multiple if fit.reach == "resize" else 1
    return max(rows, least), max(columns, least)


def _window(rows: int, columns: int, fit: TeacherFit) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of the input in the resized image; negative where padded."""
    if fit.reach == "pad":
        if fit.square:
            assert fit.long_edge is not None
            kept_rows = kept_columns = fit.long_edge
        else:
            kept_rows, kept_columns = (
                math.ceil(side / fit.multiple) * fit.multiple for side in (rows, columns)
            )
        return (rows - kept_rows) // 2, (columns - kept_columns) // 2, kept_rows, kept_columns
    kept_rows, kept_columns = rows, columns
    if fit.square and fit.reach == "crop":
        kept_rows = kept_columns = 2 * min(rows // 2, columns // 2)
    elif fit.multiple > 1 and fit.reach == "crop":
        kept_rows, kept_columns = (
            2 * (side // 2) // fit.multiple * fit.multiple for side in (rows, columns)
        )
        if rows == columns and fit.square_to_4x3:
            kept_rows = kept_columns * 3 // 4 // fit.multiple * fit.multiple
    if min(kept_rows, kept_columns) == 0:
        raise ImageError(
            f"too small: {columns}x{rows} pixels at the teacher's size, "
            f"the least is {fit.multiple} a side"
        )
    # Around half the side, rounded down: an odd side loses its last row.
    return rows // 2 - kept_rows // 2, columns // 2 - kept_columns // 2, kept_rows, kept_columns
