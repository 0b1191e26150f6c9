"""Rendered views: images with a camera and depth in meters beside them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.records import DepthFile, Frame, Refused, Rig
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there


def rendered_view(
    image: Path,
    number: int,
    *,
    camera: Path,
    depth: Path,
    read_camera: Callable[[Path], tuple[Float[np.ndarray, "4 4"], Rig]],
) -> Frame | Refused:
    """The frame of a view; it has depth where it has a camera.

    Args:
        image: Its image.
        number: Its number.
        camera: File of its camera; may be missing.
        depth: File of its depth; may be missing.
        read_camera: Reads world_from_cam and K; an ImageError refuses the view.
    """
    try:
        pose, rig = read_camera(camera) if is_there(camera) else (None, None)
    except ImageError as error:
        return Refused(image, str(error), is_frame=True)
    return Frame(
        name=image.stem,
        image=image,
        number=number,
        pose=pose,
        depth=DepthFile(depth, codec="exr", scale=1.0, invalid=())
        if rig is not None and is_there(depth)
        else None,
        rig=rig,
    )
