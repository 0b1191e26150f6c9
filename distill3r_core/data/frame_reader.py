"""Read and check the files of a frame: image, depth registered to it, pose."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from distill3r_core.data.conventions.intrinsics import check_principal_point, check_shape
from distill3r_core.data.conventions.orientation import (
    as_stored,
    check_orientation,
    is_of_stored_size,
)
from distill3r_core.data.conventions.readings import world_from_stored_pose
from distill3r_core.data.depth_registration import register_depth
from distill3r_core.data.layouts.records import DepthFile, Frame, Rig
from distill3r_core.data.matrix_files import exact_pose, read_pose
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there
from distill3r_core.io.images.blank import check_not_blank
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import read_confidence
from distill3r_core.io.images.depth_codecs import DEPTH_CODECS
from distill3r_core.io.images.masks import mask_of
from distill3r_core.views import Unit

_STORED_FROM_TURNED = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
_SAME_SHAPE = 0.02  # relative difference of two aspect ratios of one view


@dataclass(frozen=True)
class SourceFrame:
    """One frame before it is brought to its processed size.

    Args:
        pixels: Upright RGB.
        focal_35mm: Focal length from EXIF, in millimeters of 35 mm film.
        intrinsics: Calibrated K of the image, centers at +0.5.
        depth: Depth registered to the image, in `unit`; 0 where unknown.
        world_from_cam: Pose of the color camera.
        unit: Unit of depth and pose.
        notes: Choices that were made in reading the image.
        mask: Pixels that count; None: all of them.
        is_nominal: Whether `intrinsics` is one value for all cameras of a kind; see `Rig`.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    focal_35mm: float | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    depth: Float[np.ndarray, "H W"] | None = None
    world_from_cam: Float[np.ndarray, "4 4"] | None = None
    unit: Unit = "none"
    notes: tuple[str, ...] = ()
    mask: Bool[np.ndarray, "H W"] | None = None
    is_nominal: bool = False


def read_source_frame(
    frame: Frame,
    *,
    images_only: bool = False,
    ignore_masks: bool = False,
    trust: bool = False,
) -> SourceFrame:
    """Read all files of a frame.

    Args:
        frame: A frame that a layout has listed.
        images_only: Leave depth and pose out.
        ignore_masks: Leave the mask and the alpha channel out: all pixels count.
        trust: Accept what contradicts itself.

    Raises:
        ImageError: Something that the frame names is missing or unusable, or K belongs to images
            of another shape. The message is the reason alone. Where only the image is wanted, or K
            is nominal and there is no depth, such a K is left out instead, with a note.
        ContradictionError: EXIF turns the image, but not its depth or K; or the principal point
            is outside the image.
    """
    image = read_image(frame.image)
    if not frame.may_be_blank:
        check_not_blank(image.pixels)
    wanted = None if images_only else frame.depth
    stored_depth = None if wanted is None else read_stored_depth(wanted)
    if trust and stored_depth is not None and is_of_stored_size(image, stored_depth.shape):
        image = as_stored(image)
    height, width, _ = image.pixels.shape
    if not trust:
        check_orientation(
            frame,
            image.orientation,
            size=(height, width),
            depth_size=None if stored_depth is None else stored_depth.shape,
            posed=frame.pose is not None and not images_only,
        )
    rig = None if frame.rig is None else rig_for(frame.rig, (height, width))
    k, notes = None if rig is None else rig.color, image.notes
    if frame.rig is not None and rig is not None and not trust:
        # K is of use without depth and pose too, but an image can do without.
        dispensable = images_only or (frame.rig.is_nominal and frame.depth is None)
        try:
            if frame.rig.size is not None and not frame.rig.is_stretched:
                check_shape(frame.rig.size, (height, width))
        except ImageError as error:
            if not dispensable:
                raise
            k, notes = None, (*notes, f"{error}: the image is taken without intrinsics")
        else:
            check_principal_point(rig.color, (height, width), place=str(frame.image))
    source = SourceFrame(
        image.pixels,
        image.exif_focal_35mm,
        intrinsics=k,
        notes=notes,
        mask=None if ignore_masks else mask_of(image, frame.mask),
        is_nominal=k is not None and rig is not None and rig.is_nominal,
    )
    if images_only or (frame.depth is None and frame.pose is None):
        return turned(source, frame.turns)
    if frame.depth is not None and rig is None:
        raise ImageError("no intrinsics for its depth")
    pose = read_frame_pose(frame)
    depth = stored_depth
    if depth is not None and wanted is not None and wanted.any_size:
        depth = resized_to(depth, (height, width))
    if depth is not None and depth.shape != (height, width):
        raise ImageError(
            f"depth is {depth.shape[1]}x{depth.shape[0]} pixels, the image {width}x{height}"
        )
    if rig is not None and rig.color_from_depth is not None:
        if pose is not None:
            pose = pose @ np.linalg.inv(rig.color_from_depth)
        if depth is not None:
            depth = register_depth(
                depth,
                depth_camera=rig.color if rig.depth is None else rig.depth,
                color_camera=rig.color,
                color_from_depth=rig.color_from_depth,
                size=(height, width),
            )
            if not depth.any():
                raise ImageError("depth has no valid pixel in the color picture")
    source = replace(source, depth=depth, world_from_cam=pose, unit=frame.unit)
    return turned(source, frame.turns)


def turned(source: SourceFrame, turns: int) -> SourceFrame:
    """A frame after quarter turns against the clock: all that it has turns together."""
    for _ in range(turns % 4):
        k, pose, width = source.intrinsics, source.world_from_cam, source.pixels.shape[1]
        if k is not None:
            # The pixel (u, v) comes to (v, width - u): x and y of the camera to (y, -x).
            k = np.array([[k[1, 1], 0, k[1, 2]], [0, k[0, 0], width - k[0, 2]], [0, 0, 1.0]])
        source = replace(
            source,
            pixels=np.ascontiguousarray(np.rot90(source.pixels)),
            intrinsics=k,
            depth=None if source.depth is None else np.ascontiguousarray(np.rot90(source.depth)),
            world_from_cam=None if pose is None else pose @ _STORED_FROM_TURNED,
            mask=None if source.mask is None else np.ascontiguousarray(np.rot90(source.mask)),
        )
    return source


def read_frame_pose(frame: Frame) -> Float[np.ndarray, "4 4"] | None:
    """world_from_cam with OpenCV axes, its rotation made exact; None where there is none.

    It is the pose of the depth camera where the frame's rig has `color_from_depth`.

    Raises:
        ImageError: It is missing or is no rigid motion. The message is the reason alone.
    """
    stored = read_stored_pose(frame)
    if stored is None:
        return None
    return world_from_stored_pose(stored, convention=frame.pose_convention, axes=frame.pose_axes)


def read_stored_pose(frame: Frame) -> Float[np.ndarray, "4 4"] | None:
    """The pose as the data set stores it, its rotation made exact; None where there is none.

    Raises:
        ImageError: It is missing or is no rigid motion. The message is the reason alone.
    """
    if frame.pose is None:
        return None
    return read_pose(frame.pose) if isinstance(frame.pose, Path) else exact_pose(frame.pose)


def read_stored_depth(file: DepthFile) -> Float[np.ndarray, "H W"]:
    """Depth of the depth camera, not registered, in the frame's unit; 0 where invalid.

    Raises:
        ImageError: It is missing, unreadable or has no valid pixel. The message is the reason
            alone.
    """
    if not is_there(file.path):
        raise ImageError(f"depth is missing: no {file.path.name}")
    stored = DEPTH_CODECS[file.codec](file.path)
    depth = (stored / file.scale).astype(np.float32)
    # Written so that NaN is invalid too.
    valid = (depth > 0) & (depth <= file.farthest) & np.isfinite(depth)
    valid &= ~np.isin(stored, file.invalid)
    if file.valid is not None:
        if not is_there(file.valid):
            raise ImageError(f"confidence of depth is missing: no {file.valid.name}")
        confidence = read_confidence(file.valid)
        if confidence.shape != depth.shape:
            raise ImageError(f"{file.valid.name} and its depth differ in size")
        valid &= confidence >= file.min_valid
    if not valid.any():
        raise ImageError("depth has no valid pixel")
    return np.where(valid, depth, np.float32(0))


def resized_to(depth: Float[np.ndarray, "h w"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """A depth map of the same view at another size, by the nearest pixel.

    Raises:
        ImageError: The shapes differ by more than 2 %: it is another view. The message is the
            reason alone.
    """
    rows, columns = depth.shape
    if abs(rows * size[1] / (columns * size[0]) - 1) > _SAME_SHAPE:
        raise ImageError(
            f"depth is {columns}x{rows} pixels, which is another shape than the image's "
            f"{size[1]}x{size[0]}"
        )
    # The centers of the image's pixels, as numbers of the map's rows and columns.
    row = ((np.arange(size[0]) + 0.5) * rows / size[0]).astype(int)
    column = ((np.arange(size[1]) + 0.5) * columns / size[1]).astype(int)
    return depth[row[:, None], column]


def rig_for(rig: Rig, size: tuple[int, int]) -> Rig:
    """The rig for images of a size; another one where it was calibrated for another size."""
    if rig.size is None or rig.size == size:
        return rig
    scale = np.diag([size[1] / rig.size[1], size[0] / rig.size[0], 1.0])
    depth = None if rig.depth is None else scale @ rig.depth
    return replace(rig, color=scale @ rig.color, size=size, depth=depth)
