"""Which images a K belongs to, by its principal point."""

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ContradictionError, ImageError

_MULTIPLES = (1, 2, 3, 4, 5, 6, 8, 10)  # of image sizes that K may belong to
_SIZES = (  # rows, columns of common cameras
    *((480, 640), (960, 1280), (968, 1296), (720, 1280), (1080, 1920), (1440, 1920)),
    *((1536, 2048), (3024, 4032), (424, 512), (240, 320), (192, 256), (2160, 3840)),
)
_SAME_SIZE = 0.08  # relative difference up to which a principal point fits the image
_SAME_SHAPE = 0.01  # relative difference of two aspect ratios that one K can be scaled between
_ROUNDED = 1.0  # pixel by which resizing rounds a side
_NEAR_SIZE = 0.02  # relative difference up to which it names a common size


def implied_size(
    intrinsics: Float[np.ndarray, "3 3"], image_size: tuple[int, int]
) -> tuple[int, int] | None:
    """Rows and columns of the images that K seems to belong to.

    Args:
        intrinsics: K, centers at +0.5.
        image_size: Rows and columns of the images it is used for.

    Returns:
        A multiple or fraction of the image's size or a common size where one is near, else twice
        the principal point; None where the principal point is near the center of the image or is
        not positive.
    """
    center = np.array([intrinsics[1, 2], intrinsics[0, 2]])
    if (center <= 0).any():
        return None
    size = np.array(image_size)
    if (np.abs(2 * center / size - 1) < _SAME_SIZE).all():
        return None
    scaled = [size * factor for factor in _MULTIPLES]
    scaled += [size / factor for factor in _MULTIPLES if not (size % factor).any()]
    candidates = np.array([*scaled, *_SIZES])
    off = np.abs(2 * center / candidates - 1).max(axis=1)
    rows, columns = candidates[off.argmin()] if off.min() < _NEAR_SIZE else 2 * center
    return max(round(float(rows)), 1), max(round(float(columns)), 1)


def check_principal_point(
    intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], *, place: str
) -> None:
    """Check that the principal point is inside the image.

    Args:
        intrinsics: K of the image, centers at +0.5.
        size: Rows and columns of the image.
        place: Name of the image, for the message.

    Raises:
        ContradictionError: It is on the border or outside; the size that K may belong to is named.
    """
    (rows, columns), (x, y) = size, intrinsics[:2, 2]
    if 0 < x < columns and 0 < y < rows:
        return
    hint = "--trust continues with these intrinsics"
    if (implied := implied_size(intrinsics, size)) is not None:
        option = f"--intrinsics-size {implied[1]}x{implied[0]}"
        hint = f"they fit images of {implied[1]}x{implied[0]}: {option}; {hint}"
    raise ContradictionError(
        f"the principal point ({x:g}, {y:g}) is not inside the image, {columns}x{rows} pixels: "
        f"the intrinsics of {place} belong to images of another size",
        hint=hint,
    )


def check_shape(calibrated: tuple[int, int], size: tuple[int, int]) -> None:
    """Check that an image has the shape of the images that K belongs to, so that K can be scaled.

    Sides may be off by a pixel, which is more than 1 % of a small image: resizing rounds them.

    Args:
        calibrated: Rows and columns of the images that K belongs to.
        size: Rows and columns of the image.

    Raises:
        ImageError: The aspect ratios differ by more than 1 %: the image was cropped or turned. The
            message is the reason alone.
    """
    rows, columns = size
    off = abs(rows * calibrated[1] - columns * calibrated[0])
    if off > max(_SAME_SHAPE * columns * calibrated[0], _ROUNDED * max(calibrated)):
        raise ImageError(
            f"its intrinsics belong to images of {calibrated[1]}x{calibrated[0]} pixels, which is "
            f"another shape than its {columns}x{rows} (--intrinsics-size WxH says of which size)"
        )
