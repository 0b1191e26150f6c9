"""From a source frame to its processed form: the one function of `manifest` and `eval`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config
from distill3r_core.data.frame_reader import SourceFrame
from distill3r_core.data.manifest_cells import IntrinsicsSource
from distill3r_core.data.manifest_views import content_hash, image_hash
from distill3r_core.files import read_text_file
from distill3r_core.io.images.decode import check_size
from distill3r_core.io.images.depth import as_stored
from distill3r_core.io.images.resize import limited_size, resize_image
from distill3r_core.views import Unit

RECORD = "manifest.json"  # beside a manifest: its settings, roots and how frames were processed
_FILM_WIDTH = 36.0  # millimeters, the long edge of the film that EXIF's 35 mm focal length means


@checked_dataclass(frozen=True, config=config.STRICT)
class Processing:
    """What decides how a source frame looks after processing; recorded in cache and run.

    Args:
        resize_max: The long edge is at most this many pixels.
    """

    resize_max: int = 960


@dataclass(frozen=True)
class Processed:
    """A frame as every later stage reads it.

    Args:
        image: Upright RGB.
        intrinsics: K of `image`, centers at +0.5; the placeholder (f = max(H, W), center) where
            `intrinsics_source` is "none".
        intrinsics_source: Where K comes from.
        depth: Registered and at the size of `image`, in `unit`; 0 where unknown.
        world_from_cam: Pose.
        unit: Unit of depth and pose.
        mask: Pixels of `image` that count; None: all of them.
        picture: Hash of the pixels.
        content: Hash of all that a teacher reads.
        is_nominal: Whether `intrinsics` is one value for all cameras of a kind; see `Rig`.
    """

    image: UInt8[np.ndarray, "H W 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    intrinsics_source: IntrinsicsSource
    depth: Float[np.ndarray, "H W"] | None
    world_from_cam: Float[np.ndarray, "4 4"] | None
    unit: Unit
    mask: Bool[np.ndarray, "H W"] | None
    picture: str
    content: str
    is_nominal: bool = False


def process(source: SourceFrame, settings: Processing) -> Processed:
    """Bring image, depth, mask and K to the processed size.

    Raises:
        ImageError: The image would be smaller than a patch. The message is the reason alone.
    """
    height, width, _ = source.pixels.shape
    rows, columns = processed_size((height, width), settings)
    check_size((rows, columns))
    image, depth, mask = source.pixels, source.depth, source.mask
    if (rows, columns) != (height, width):
        image = resize_image(image, (rows, columns))
        depth = None if depth is None else _nearest(depth, (rows, columns))
        mask = None if mask is None else _nearest(mask, (rows, columns))
    if depth is not None:
        # As it will be stored: what a reader gets back is what is hashed here.
        depth = as_stored(depth, source.unit)
    intrinsics, known = _intrinsics(source, (rows, columns))
    picture = image_hash(image)
    return Processed(
        image=image,
        intrinsics=intrinsics,
        intrinsics_source=known,
        depth=depth,
        world_from_cam=source.world_from_cam,
        unit=source.unit,
        mask=mask,
        picture=picture,
        content=content_hash(
            picture,
            depth=depth,
            intrinsics=intrinsics if known == "calibrated" else None,
            world_from_cam=source.world_from_cam,
            unit=source.unit,
            mask=mask,
        ),
        is_nominal=source.is_nominal,
    )


def recorded_processing(folder: Path) -> dict[str, Any]:
    """How the images of a manifest were processed, as plain data; {} where nothing says."""
    try:
        record = json.loads(read_text_file(folder / RECORD))
        return dict(record["processing"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # a manifest of the original project; of a damaged record the reader warns


def processed_size(size: tuple[int, int], settings: Processing) -> tuple[int, int]:
    """Rows and columns after the long edge is brought to its limit; never enlarged."""
    return limited_size(size, settings.resize_max)


def placeholder(size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """The original project's K of an image about which nothing is known."""
    height, width = size
    focal = float(max(size))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _nearest(values: Shaped[np.ndarray, "H W"], size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
    import torch  # most images have neither depth nor mask, and torch takes 0.4 GB

    from distill3r_core.geometry.resample import resample_nearest, whole

    given = torch.from_numpy(values)
    return resample_nearest(given, whole(given), size).numpy()


def _intrinsics(
    source: SourceFrame, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], IntrinsicsSource]:
    if source.intrinsics is not None:
        height, width, _ = source.pixels.shape
        return np.diag([size[1] / width, size[0] / height, 1.0]) @ source.intrinsics, "calibrated"
    guess = placeholder(size)
    if source.focal_35mm is None:
        return guess, "none"
    guess[0, 0] = guess[1, 1] = source.focal_35mm * max(size) / _FILM_WIDTH
    return guess, "exif"
