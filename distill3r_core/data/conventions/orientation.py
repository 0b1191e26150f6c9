"""EXIF orientation of images whose depth, pose or intrinsics may not be turned with them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from distill3r_core.data.layouts.records import Frame, Rig
from distill3r_core.errors import ContradictionError
from distill3r_core.io.images.decode import DecodedImage

# What turns an upright image back, by its EXIF orientation, where that swaps its sides.
_BACK: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    5: lambda upright: np.swapaxes(upright, 0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(np.swapaxes(upright, 0, 1), 2),
    8: lambda upright: np.rot90(upright, -1),
}
_SWAPS_SIDES = frozenset(_BACK)
_CENTERED = 1.0  # pixels by which a turn may move the principal point


def check_orientation(
    frame: Frame,
    orientation: int,
    *,
    size: tuple[int, int],
    depth_size: tuple[int, ...] | None,
    posed: bool,
) -> None:
    """Refuse an image that EXIF turns unless depth and K are seen to be turned with it.

    Where the turn swaps the sides of the image, sizes tell. Where it does not (or the image is
    square), depth, pose and a principal point off the middle are taken as not turned: none of them
    has an orientation tag.

    Args:
        frame: The frame, for its rig and its name.
        orientation: EXIF orientation, 1 to 8.
        size: Rows and columns of the upright image.
        depth_size: Rows and columns of the depth map; None where it is not used.
        posed: Whether the pose is used.

    Raises:
        ContradictionError: Names the orientation and what is not turned.
    """
    if orientation == 1:
        return
    swapped = orientation in _SWAPS_SIDES and size[0] != size[1]
    not_turned = []
    if swapped:
        stored = (size[1], size[0])
        if depth_size is not None and tuple(depth_size) == stored:
            not_turned.append("its depth")
        if frame.rig is not None and _belongs_to(frame.rig, stored, rather_than=size):
            not_turned.append("its intrinsics")
    else:
        not_turned += ["its depth"] if depth_size is not None else []
        not_turned += ["its pose"] if posed else []
        off_center = frame.rig is not None and _is_off_center(frame.rig, size)
        not_turned += ["its intrinsics"] if off_center else []
    if not_turned:
        raise ContradictionError(
            f"{frame.image} has EXIF orientation {orientation}, which turns the image, "
            f"but not {' and '.join(not_turned)}",
            hint="remove the tag if depth, pose and intrinsics belong to the pixels as stored; "
            "--trust takes depth of the stored size so, all else as belonging to the upright image",
        )


def _is_off_center(rig: Rig, size: tuple[int, int]) -> bool:
    """Whether a turn moves the principal point."""
    rows, columns = rig.size or size
    moved = max(abs(2 * rig.color[0, 2] - columns), abs(2 * rig.color[1, 2] - rows))
    return bool(moved > _CENTERED)


def _belongs_to(rig: Rig, stored: tuple[int, int], *, rather_than: tuple[int, int]) -> bool:
    """Whether K fits images of one size better than those of another, by its image's shape."""
    rows, columns = rig.size or (2 * rig.color[1, 2], 2 * rig.color[0, 2])
    upright_rows, upright_columns = rather_than
    as_stored = abs(rows * stored[1] - columns * stored[0])
    as_upright = abs(rows * upright_columns - columns * upright_rows)
    return bool(as_stored < as_upright)


def is_of_stored_size(image: DecodedImage, size: tuple[int, ...]) -> bool:
    """Whether rows and columns are those of an image before EXIF turned it on its side."""
    rows, columns = image.pixels.shape[:2]
    return image.orientation in _BACK and rows != columns and tuple(size) == (columns, rows)


def as_stored(image: DecodedImage) -> DecodedImage:
    """An image that EXIF has turned on its side, with its pixels as they are stored."""
    back = _BACK[image.orientation]
    mask = None if image.mask is None else np.ascontiguousarray(back(image.mask))
    return replace(image, pixels=np.ascontiguousarray(back(image.pixels)), mask=mask, orientation=1)
