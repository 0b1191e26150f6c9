"""What the user knows about the cameras: their intrinsics, or that they are one camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.files import read_text_file, refuse_special
from distill3r_core.reconstruction.loaded_views import LoadedView

_SYNTAX = "--intrinsics fx,fy,cx,cy, or a file of these four numbers or of the 3x3 matrix"


@dataclass(frozen=True, eq=False)
class CameraOptions:
    """Options that replace the estimate of one focal length per view.

    Args:
        intrinsics: K of every full-size image, in its pixels, centers at +0.5; None: estimated.
        shared: One focal length for all views; for an image of another size it is scaled by the
            long edge.
    """

    intrinsics: Float[np.ndarray, "3 3"] | None = None
    shared: bool = False

    def check(self, views: Sequence[LoadedView]) -> None:
        """Check that the intrinsics fit the images.

        Raises:
            RequestError: The images have several sizes, or the principal point is outside.
        """
        if self.intrinsics is None:
            return
        sizes = {view.size: view.name for view in views}
        if len(sizes) > 1:
            named = ", ".join(f"{name} {size[1]}x{size[0]}" for size, name in sizes.items())
            raise RequestError(
                f"--intrinsics belong to images of one size, and these have {len(sizes)}: {named}",
                hint="reconstruct images of one size, or use --shared-camera",
            )
        (rows, columns), (x, y) = views[0].size, self.intrinsics[:2, 2]
        if not (0 < x < columns and 0 < y < rows):
            raise RequestError(
                f"--intrinsics: the principal point ({x:g}, {y:g}) is not inside the images, "
                f"{columns}x{rows} pixels",
                hint="give the intrinsics of the full-size images",
            )


def parse_intrinsics(text: str) -> Float[np.ndarray, "3 3"]:
    """K from `fx,fy,cx,cy`, or from a file of these four numbers or of the matrix.

    Raises:
        InputMissingError: There is no such file.
        RequestError: It is neither, or not the K of a camera.
    """
    words = text.replace(",", " ").split()
    if len(words) != 4 or any(_number(word) is None for word in words):
        path = Path(text)
        refuse_special(path)
        if not path.is_file():
            raise InputMissingError(f"--intrinsics: no file {path}", hint=_SYNTAX)
        words = read_text_file(path, errors="replace").replace(",", " ").split()
    values = [number for word in words if (number := _number(word)) is not None]
    if len(values) != len(words) or len(values) not in (4, 9):
        raise RequestError(f"cannot use --intrinsics {text!r}", hint=_SYNTAX)
    if len(values) == 4:
        fx, fy, cx, cy = values
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    else:
        matrix = np.array(values).reshape(3, 3)
    zero = [matrix[0, 1], matrix[1, 0], *matrix[2, :2]]
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or any(zero) or matrix[2, 2] != 1:
        raise RequestError(
            f"--intrinsics {text!r} are not those of a pinhole camera without skew", hint=_SYNTAX
        )
    return matrix


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
