"""The camera of an image after its lens distortion was removed, from the one of before.

MegaDepth's models are those of the distorted images, and its images were rectified since. The K of
a rectified image follows from the distorted camera: the focal length stays, and the image is the
largest rectangle around the principal point in which every pixel was seen. Facts: COLMAP's
`image_undistorter` without blank pixels, and the K that naver/dust3r takes for these images.
"""

import numpy as np
from jaxtyping import Float

from distill3r_core.data.colmap_model import ColmapCamera
from distill3r_core.data.layouts.records import Rig
from distill3r_core.data.matrix_files import checked_intrinsics
from distill3r_core.errors import ImageError

_PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")
_RADIAL = "SIMPLE_RADIAL"  # one factor: a point at radius r is seen at r + k r^3
_BORDER = 65  # points along a side; an odd number, so that its middle is one
_STEPS, _CLOSE = 50, 1e-9


def rectified_rig(camera: ColmapCamera) -> Rig:
    """K of the rectified images of a camera, and the size that it belongs to.

    Raises:
        ImageError: The camera is neither a pinhole nor one with a single radial factor, or its
            distortion cannot be undone up to the border.
    """
    k = camera.intrinsics
    if k is None or camera.model not in (*_PINHOLES, _RADIAL):
        raise ImageError(f"the K of rectified images of a {camera.model} camera is not known")
    checked_intrinsics(k)
    size = (camera.height, camera.width)
    if camera.model in _PINHOLES or not any(camera.distortion):
        return Rig(k, size)
    center = k[:2, 2]
    columns = np.linspace(0.5, camera.width - 0.5, _BORDER)
    rows = np.linspace(0.5, camera.height - 0.5, _BORDER)
    sides = [  # left, top, right, bottom: each how far from the center at its nearest point
        np.abs(_rectified(border, camera)[:, axis] - center[axis]).min()
        for axis, border in (
            (0, np.stack([np.full(_BORDER, columns[0]), rows], axis=1)),
            (1, np.stack([columns, np.full(_BORDER, rows[0])], axis=1)),
            (0, np.stack([np.full(_BORDER, columns[-1]), rows], axis=1)),
            (1, np.stack([columns, np.full(_BORDER, rows[-1])], axis=1)),
        )
    ]
    # From the center of the first pixel to that of the last one, and half a pixel on either side.
    exact = 2 * np.array([min(sides[0], sides[2]), min(sides[1], sides[3])]) + 1
    whole = np.round(exact)
    focal = np.diag(k)[:2] * whole / exact
    fx, fy, cx, cy = *focal.tolist(), *(whole / 2).tolist()
    return Rig(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), (int(whole[1]), int(whole[0])))


def _rectified(pixels: Float[np.ndarray, "P 2"], camera: ColmapCamera) -> Float[np.ndarray, "P 2"]:
    """Where pixels of the distorted image are after rectification with the same K.

    Raises:
        ImageError: Two places of the scene come to one pixel.
    """
    focal, cx, cy, factor = camera.params
    rays = (pixels - (cx, cy)) / focal
    seen = np.linalg.norm(rays, axis=1)
    radius = seen.copy()
    for _ in range(_STEPS):  # Newton's, of r + k r^3 = seen
        slope = 1 + 3 * factor * radius**2
        if (slope < _CLOSE).any():
            raise ImageError("its lens distortion cannot be undone")
        radius -= (radius + factor * radius**3 - seen) / slope
    if not (np.abs(radius + factor * radius**3 - seen) <= _CLOSE * (1 + seen)).all():
        raise ImageError("its lens distortion cannot be undone")
    return rays * (radius / seen)[:, None] * focal + (cx, cy)
