"""How an image of any size becomes the teacher's and the student's input.

The chain is recorded in a cache's header and in a checkpoint, and replayed by `infer` and `eval`.
The teacher may resize the image to a long edge and crop it to whole patches; the student is
shown no more than its teacher saw, at a size of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config
from distill3r_core.io.images.resize import resize_box, resize_image
from distill3r_core.io.images.size_buckets import nearest_bucket
from distill3r_core.io.images.teacher_fit import (
    Size,
    TeacherFit,
    prepare_image,
    teacher_placement,
    visible_box,
)
from distill3r_core.types import ImagePlacement

FitMode = Literal["squash", "crop", "release", "release-inference"]


@checked_dataclass(frozen=True, config=config.STRICT)
class ImageFit:
    """How images become the student's input.

    Args:
        size: Rows and columns for landscape; portrait samples swap them, but not in the two
            release modes.
        mode: "squash" keeps the whole image and gives up its aspect, "crop" keeps the aspect
            and gives up the rim. "release" is the original project's training chain (portrait
            transposed, bilinear without antialias), "release-inference" that of its inference
            script (portrait squashed, bilinear with antialias).
        teacher: How the teacher takes the image; the student is shown no more than that.
        resized: A plain resize after all this, where a student is smaller than its cache.
        patch: Side of a patch, where `size` only says how many patches there are: see `fit_for`;
            None: `size` is the size.
    """

    size: Size
    mode: FitMode = "squash"
    teacher: TeacherFit = TeacherFit()
    resized: Size | None = None
    patch: int | None = None

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it; without `patch` where there is none, as it was before there was one."""
        plain = config.as_plain(self)
        if self.patch is None:
            del plain["patch"]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "ImageFit":
        """The inverse of `as_plain`.

        Raises:
            ConfigError: Unknown keys or values that do not fit.
        """
        return config.validate(cls, plain, source="the stored fit")


@dataclass(frozen=True)
class FittedImage:
    """An image as the student gets it."""

    image: UInt8[np.ndarray, "H W 3"]  # RGB
    placement: ImagePlacement  # where it lies in the source image


def is_portrait(sizes: Sequence[Size]) -> bool:
    """Whether most images of a sample, each (rows, columns), are higher than wide."""
    return 2 * sum(height > width for height, width in sizes) > len(sizes)


def fit_for(sizes: Sequence[Size], fit: ImageFit) -> ImageFit:
    """The chain of one sample: where sizes go by shape, with the one that suits it best.

    Args:
        sizes: Rows and columns of its images.

    Raises:
        ImageError: As `teacher_placement`.
    """
    if fit.patch is None:
        return fit
    seen = [teacher_placement(size, fit.teacher).size for size in sizes]
    patches = (fit.size[0] // fit.patch) * (fit.size[1] // fit.patch)
    size = nearest_bucket(seen, patches=patches, patch=fit.patch)
    return dataclasses.replace(fit, size=size, patch=None)


def student_placement(source_hw: Size, fit: ImageFit, *, portrait: bool) -> ImagePlacement:
    """What the student sees of an image, before `fit.resized`.

    Args:
        source_hw: Rows and columns of the image.
        portrait: Whether the sample is portrait. An image of the other orientation is cropped
            to what the same camera would have seen, held the other way.
    """
    seen = visible_box(source_hw, fit.teacher)
    if fit.mode in ("release", "release-inference"):
        rows, columns = teacher_placement(source_hw, fit.teacher).size
        turned = fit.mode == "release" and rows > columns
        return ImagePlacement(box=seen, size=fit.size, transposed=turned)
    size = oriented(fit.size, portrait=portrait)
    left, top, right, bottom = seen
    aspect = (right - left) / (bottom - top)
    if fit.mode == "crop":
        aspect = size[1] / size[0]
    elif (aspect < 1) != portrait and aspect != 1:
        aspect = 1 / aspect
    return ImagePlacement(box=_center_crop(seen, aspect), size=size)


def fit_image(pixels: UInt8[np.ndarray, "H W 3"], fit: ImageFit, *, portrait: bool) -> FittedImage:
    """The image as the student gets it, `fit.resized` included."""
    height, width, _ = pixels.shape
    placement = student_placement((height, width), fit, portrait=portrait)
    if fit.mode in ("release", "release-inference"):
        image = np.rint(release_image(pixels, fit)).astype(np.uint8)
    else:
        image = resize_box(pixels, placement.size, box=placement.box)
    if fit.resized is not None:
        size = oriented(fit.resized, portrait=placement.size != fit.size)
        image = resize_image(image, size)
        placement = dataclasses.replace(placement, size=size)
    return FittedImage(image, placement)


def release_image(pixels: UInt8[np.ndarray, "H W 3"], fit: ImageFit) -> Float[np.ndarray, "h w 3"]:
    """The student's image of the two release modes before it is rounded, in 0..255, float32."""
    prepared, _ = prepare_image(pixels, fit.teacher)
    training = fit.mode == "release"
    if training and prepared.shape[0] > prepared.shape[1]:
        prepared = prepared.transpose(1, 0, 2)
    image = torch.from_numpy(np.ascontiguousarray(prepared)).movedim(-1, 0)[None].float()
    resized = torch.nn.functional.interpolate(
        image, size=fit.size, mode="bilinear", align_corners=False, antialias=not training
    )
    return resized[0].movedim(0, -1).numpy()


def oriented(size: Size, *, portrait: bool) -> Size:
    """A landscape size, swapped for portrait."""
    return (size[1], size[0]) if portrait else size


def _center_crop(
    box: tuple[float, float, float, float], aspect: float
) -> tuple[float, float, float, float]:
    """The largest part of a box with the aspect width / height, around its center."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    kept_width, kept_height = min(width, height * aspect), min(height, width / aspect)
    x, y = (width - kept_width) / 2, (height - kept_height) / 2
    return (left + x, top + y, left + x + kept_width, top + y + kept_height)
