"""Images and where they come from, as records without tensors: importing them does not load torch.

Frames: OpenCV axes (x right, y down, z forward). Pixel centers are at +0.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

Unit = Literal["m", "mm", "none"]
METERS: Mapping[Unit, float] = {"m": 1.0, "mm": 0.001, "none": 1.0}  # a unit in meters


@dataclass(frozen=True)
class ImagePlacement:
    """Where the pixels of a resized image come from.

    Args:
        box: The part of the source image that is kept: left, top, right, bottom, in its pixels.
        size: Rows and columns of the result.
        transposed: Rows and columns of the kept part are swapped before the resize (mirrors the
            scene; the original project's treatment of portrait images).
    """

    box: tuple[float, float, float, float]
    size: tuple[int, int]
    transposed: bool = False


@dataclass(frozen=True)
class View:
    """One upright image of a sample with what is known about its camera.

    Args:
        image: RGB.
        intrinsics: Calibrated K of this image, centers at +0.5; None where it is a guess.
        depth: z in the camera's frame, registered to `image`, in `unit`; 0 where unknown.
        world_from_cam: Camera pose, translation in `unit`.
        unit: "none" where the scale is arbitrary.
        mask: True where a pixel counts; None: everywhere.
        sample: Name of the sample the view belongs to.
        index: Place of the view in it; 0 is the anchor.
        is_nominal: Whether `intrinsics` is one value for all cameras of a kind, not a calibration
            of this one, where that is known.
    """

    image: UInt8[np.ndarray, "H W 3"]
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    depth: Float[np.ndarray, "H W"] | None = None
    world_from_cam: Float[np.ndarray, "4 4"] | None = None
    unit: Unit = "none"
    mask: Bool[np.ndarray, "H W"] | None = None
    sample: str = ""
    index: int = 0
    is_nominal: bool = False
