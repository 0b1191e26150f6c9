"""How a teacher takes images: its resize, crop or padding, as a record and as pixels."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic.dataclasses import dataclass

from distill3r_core import config
from distill3r_core.errors import ImageError
from distill3r_core.io.images.opencv_resize import resize_as_opencv
from distill3r_core.types import ImagePlacement

Size = tuple[int, int]  # rows and columns

_WHITE = (255, 255, 255)


@dataclass(frozen=True, config=config.STRICT)
class TeacherFit:
    """How images become a teacher's input.

    At most one of `long_edge`, `short_edge`, `width` and `area` is given; without any of them the
    image keeps its size.

    Args:
        width: Width of the resized image, in pixels; its height goes to the nearest multiple.
        area: Largest number of pixels of the resized image, whose sides are the multiples that
            come nearest to the aspect ratio (Pi3).
        reach: How the resized image reaches a square, or sides that are multiples: "crop" around
            its center, "pad" with white on both sides, or "resize" to the nearest ones without
            regard to the aspect ratio.
        square_to_4x3: A square image is cropped to 4:3, for networks that were trained on images
            of 4:3 and wider.
        resampling: "lanczos" shrinks by Lanczos and enlarges by bicubic interpolation, as
            DUSt3R's code does; "bicubic" does both by bicubic interpolation, "lanczos3" both by
            Lanczos; "opencv" is OpenCV's area average where no side grows, and its bicubic
            interpolation otherwise, first to the edge and then to the multiples (Depth Anything 3).
    """

    long_edge: int | None = None  # long edge of the resized image, in pixels
    short_edge: int | None = None  # short edge of the resized image, in pixels
    width: int | None = None
    area: int | None = None
    tallest: int | None = None  # rows that are kept around the center where there are more
    square: bool = False  # the input is a square of side `long_edge`
    multiple: int = 1  # both sides of the input are multiples of this
    reach: Literal["crop", "pad", "resize"] = "crop"
    square_to_4x3: bool = False
    resampling: Literal["lanczos", "lanczos3", "bicubic", "opencv"] = "lanczos"

    def __post_init__(self) -> None:
        assert self.long_edge is not None or not self.square, "a square has a given side"
        given = (self.long_edge, self.short_edge, self.width, self.area)
        assert sum(length is not None for length in given) <= 1, "one length decides the size"

    @property
    def keeps_size(self) -> bool:
        """Whether the image is not resized, but for its multiples."""
        return self.long_edge is self.short_edge is self.width is self.area is None


DUST3R_FIT = TeacherFit(long_edge=512, multiple=16, square_to_4x3=True)  # MASt3R and Fast3R too
DUST3R_224_FIT = TeacherFit(long_edge=224, multiple=16, square=True)
DA3_FIT = TeacherFit(long_edge=504, multiple=14, reach="resize", resampling="opencv")
VGGT_FIT = TeacherFit(width=518, multiple=14, tallest=518, resampling="bicubic")
PI3_FIT = TeacherFit(area=255_000, multiple=14, resampling="lanczos3")


def teacher_placement(source: Size, fit: TeacherFit) -> ImagePlacement:
    """Which part of an image the teacher's input shows, and its size.

    Args:
        source: Rows and columns of the image.

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
    return ImagePlacement(box=box, size=(kept_rows, kept_columns))


def visible_box(source: Size, fit: TeacherFit) -> tuple[float, float, float, float]:
    """The part of an image that the teacher sees: left, top, right, bottom, in its pixels."""
    left, top, right, bottom = teacher_placement(source, fit).box
    if fit.reach != "pad":
        return left, top, right, bottom
    height, width = (float(side) for side in source)
    return max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)


def prepare_image(
    pixels: UInt8[np.ndarray, "H W 3"], fit: TeacherFit
) -> tuple[UInt8[np.ndarray, "h w 3"], ImagePlacement]:
    """The image at the teacher's input size, and its placement in the source image.

    Raises:
        ImageError: Nothing is left of the image after the crop.
    """
    source = (pixels.shape[0], pixels.shape[1])
    placement = teacher_placement(source, fit)
    rows, columns = resized_size(source, fit)
    image = Image.fromarray(_resized(pixels, fit))
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
    if fit.width is not None:
        height = round(source[0] * fit.width / source[1] / fit.multiple) * fit.multiple
        return max(height, fit.multiple), fit.width
    if fit.area is not None:
        return _size_of_area(source, fit.area, fit.multiple)
    rows, columns = _edge_size(source, fit)
    if fit.reach == "resize":
        rows, columns = (
            fit.multiple * math.floor(side / fit.multiple + 0.5) for side in (rows, columns)
        )
    least = fit.multiple if fit.reach == "resize" else 1
    return max(rows, least), max(columns, least)


def common_windows(sizes: Sequence[Size]) -> list[tuple[int, int, int, int]]:
    """The part of each image that is left where all of them are cropped to one size.

    Args:
        sizes: Rows and columns of the images.

    Returns:
        Top, left, rows and columns of each part, around the image's center.
    """
    rows, columns = (min(size[axis] for size in sizes) for axis in (0, 1))
    return [((h - rows) // 2, (w - columns) // 2, rows, columns) for h, w in sizes]


def _edge_size(source: Size, fit: TeacherFit) -> Size:
    """Rows and columns with the long or the short edge as wanted, before any multiple."""
    rows, columns = source
    edge, own = fit.long_edge, max(source)
    if fit.short_edge is not None:
        edge, own = fit.short_edge, min(source)
    elif edge is not None and fit.square and fit.reach == "crop":
        edge = round(edge * max(source) / min(source))  # the short edge fills the square
    if edge is None:
        return rows, columns
    return max(round(rows * edge / own), 1), max(round(columns * edge / own), 1)


def _size_of_area(source: Size, area: int, multiple: int) -> Size:
    """Multiples near the aspect ratio, of at most `area` pixels (the rule of Pi3's loader)."""
    scale = math.sqrt(area / (source[0] * source[1]))
    height, width = (side * scale for side in source)
    rows, columns = (max(round(side / multiple), 1) for side in (height, width))
    while rows * columns * multiple**2 > area and max(rows, columns) > 1:
        if columns / rows > width / height:
            columns -= 1
        else:
            rows -= 1
    return max(rows, 1) * multiple, max(columns, 1) * multiple


def _resized(pixels: UInt8[np.ndarray, "H W 3"], fit: TeacherFit) -> UInt8[np.ndarray, "h w 3"]:
    """The image after the resize, before crop or padding."""
    source = (pixels.shape[0], pixels.shape[1])
    rows, columns = resized_size(source, fit)
    if fit.keeps_size and (rows, columns) == source:
        return pixels
    if fit.resampling == "opencv":
        return resize_as_opencv(resize_as_opencv(pixels, _edge_size(source, fit)), (rows, columns))
    # DUSt3R's choice: bicubic also where nothing changes.
    shrinks = max(source) > max(rows, columns)
    lanczos = fit.resampling == "lanczos3" or (shrinks and fit.resampling == "lanczos")
    filter_ = Image.Resampling.LANCZOS if lanczos else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize((columns, rows), filter_))


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
    if fit.tallest is not None:
        kept_rows = min(rows, fit.tallest)
        return (rows - kept_rows) // 2, 0, kept_rows, kept_columns
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
