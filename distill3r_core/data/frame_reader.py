"""A frame as its data set stores it, read and checked: picture, depth registered to it, pose."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from distill3r_core.data.depth_registration import register_depth
from distill3r_core.data.layouts.base import Frame, Rig
from distill3r_core.data.matrix_files import read_matrix
from distill3r_core.errors import ImageError
from distill3r_core.io.images.decode import read_image
from distill3r_core.io.images.depth import MILLIMETRES, read_png16
from distill3r_core.types import Unit

# How far from a rotation a stored one may be: sensors' files are off by 1e-3.
ROTATION_TOLERANCE = 1e-2


@dataclass(frozen=True)
class SourceFrame:
    """One frame before it is brought to its processed size.

    Args:
        pixels: Upright RGB.
        focal_35mm: From EXIF.
        intrinsics: Calibrated K of the picture, centers at +0.5.
        depth: Registered to the picture, in `unit`; 0 where unknown.
        world_from_cam: Pose of the color camera.
        unit: Of depth and pose.
        notes: What was decided in reading the picture.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    focal_35mm: float | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    depth: Float[np.ndarray, "H W"] | None = None
    world_from_cam: Float[np.ndarray, "4 4"] | None = None
    unit: Unit = "none"
    notes: tuple[str, ...] = ()


def read_source_frame(frame: Frame, *, images_only: bool = False) -> SourceFrame:
    """Read all files of a frame.

    Args:
        frame: Of a layout.
        images_only: Leave depth and pose alone.

    Raises:
        ImageError: Something that is needed is missing or unusable. The message is the reason
            alone.
    """
    picture = read_image(frame.color)
    size = (picture.pixels.shape[0], picture.pixels.shape[1])
    rig = None if frame.rig is None else _scaled(frame.rig, size)
    if frame.depth is None or frame.pose is None or images_only:
        return SourceFrame(
            picture.pixels,
            picture.exif_focal_35mm,
            intrinsics=None if rig is None else rig.color,
            notes=picture.notes,
        )
    if rig is None:
        raise ImageError("no intrinsics for its depth")
    pose = read_pose(frame.pose)
    depth = _read_depth(frame.depth, rig, size)
    if rig.color_from_depth is not None and rig.depth is not None:
        depth = register_depth(
            depth,
            depth_camera=rig.depth,
            color_camera=rig.color,
            color_from_depth=rig.color_from_depth,
            size=size,
        )
        pose = pose @ np.linalg.inv(rig.color_from_depth)
        if not depth.any():
            raise ImageError("depth has no valid pixel in the color picture")
    return SourceFrame(
        picture.pixels,
        picture.exif_focal_35mm,
        intrinsics=rig.color,
        depth=depth,
        world_from_cam=pose,
        unit=rig.unit,
        notes=picture.notes,
    )


def read_pose(path: Path) -> Float[np.ndarray, "4 4"]:
    """world_from_cam out of a text file of sixteen numbers, its rotation made exact.

    Raises:
        ImageError: Missing, not sixteen finite numbers, or not a rigid motion.
    """
    pose = read_matrix(path, 4, what="pose")
    rotation = pose[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > ROTATION_TOLERANCE or abs(np.linalg.det(rotation) - 1) > ROTATION_TOLERANCE:
        raise ImageError("pose is not a rotation")
    if np.abs(pose[3] - (0, 0, 0, 1)).max() > ROTATION_TOLERANCE:
        raise ImageError("pose does not end in the row 0 0 0 1")
    u, _, vt = np.linalg.svd(rotation)
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = u @ vt, pose[:3, 3]
    return exact


def _read_depth(path: Path, rig: Rig, size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Raw depth in the rig's unit, 0 where invalid."""
    if not path.is_file():
        raise ImageError(f"depth is missing: no {path.name}")
    raw = read_png16(path)
    if raw.shape != size:
        raise ImageError(
            f"depth is {raw.shape[1]}x{raw.shape[0]} pixels, the picture {size[1]}x{size[0]}"
        )
    depth = (raw / MILLIMETRES[rig.unit]).astype(np.float32)
    depth[depth > rig.farthest] = 0
    if not depth.any():
        raise ImageError("depth has no valid pixel")
    return depth


def _scaled(rig: Rig, size: tuple[int, int]) -> Rig:
    """The rig for pictures of another size than it was calibrated for."""
    if rig.size is None or rig.size == size:
        return rig
    scale = np.diag([size[1] / rig.size[1], size[0] / rig.size[0], 1.0])
    return Rig(
        color=scale @ rig.color,
        size=size,
        depth=None if rig.depth is None else scale @ rig.depth,
        color_from_depth=rig.color_from_depth,
        farthest=rig.farthest,
        unit=rig.unit,
    )
