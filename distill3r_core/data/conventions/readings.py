"""Conventions of RGB-D data: how stored poses, depth and intrinsics are to be read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.records import (
    DepthFile,
    Frame,
    PoseAxes,
    PoseConvention,
    VideoScene,
)
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.depth import MILLIMETERS
from distill3r_core.views import Unit

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # y up, z backward


@dataclass(frozen=True)
class Conventions:
    """Conventions that replace those of a layout; None keeps the layout's.

    Args:
        pose_convention: "c2w": stored poses are world-from-camera; "w2c": camera-from-world.
        pose_axes: Camera axes of the stored poses: "opencv" (y down, z forward) or "opengl"
            (y up, z backward).
        depth_scale: Stored depth units in one meter (in one unit of the poses where a data set
            is not metric).
        intrinsics_size: Rows and columns of the images that K belongs to.
    """

    pose_convention: PoseConvention | None = None
    pose_axes: PoseAxes | None = None
    depth_scale: float | None = None
    intrinsics_size: tuple[int, int] | None = None

    @property
    def options(self) -> str:
        """The command-line options that state them."""
        given = []
        if self.pose_convention is not None:
            given.append(f"--pose-convention {self.pose_convention}")
        if self.pose_axes is not None:
            given.append(f"--pose-axes {self.pose_axes}")
        if self.depth_scale is not None:
            given.append(f"--depth-scale {self.depth_scale:g}")
        if self.intrinsics_size is not None:
            height, width = self.intrinsics_size
            given.append(f"--intrinsics-size {width}x{height}")
        return " ".join(given)


def with_conventions(frames: Sequence[Frame], given: Conventions) -> Sequence[Frame]:
    """Frames that are read by the given conventions instead of their layout's."""
    if given == Conventions():
        return frames
    changed = []
    for frame in frames:
        depth, rig = frame.depth, frame.rig
        if depth is not None and given.depth_scale is not None:
            depth = replace(depth, scale=given.depth_scale / _units_in_meter(frame.unit))
        if rig is not None and given.intrinsics_size is not None:
            rig = replace(rig, size=given.intrinsics_size, is_stretched=True)
        changed.append(
            replace(
                frame,
                depth=depth,
                rig=rig,
                pose_convention=given.pose_convention or frame.pose_convention,
                pose_axes=given.pose_axes or frame.pose_axes,
            )
        )
    return tuple(changed)


def video_with_conventions(video: VideoScene, given: Conventions) -> VideoScene:
    """A video with what was recorded beside it read by the given conventions."""
    if video.beside is None:
        return video
    frames = with_conventions(tuple(video.beside.values()), given)
    return replace(video, beside=dict(zip(video.beside, frames, strict=True)))


def depth_scale_of(depth: DepthFile, unit: Unit) -> float:
    """Stored steps of a depth map in one meter, as `Conventions.depth_scale` counts them."""
    return depth.scale * _units_in_meter(unit)


def world_from_stored_pose(
    stored: Float[np.ndarray, "4 4"], *, convention: PoseConvention, axes: PoseAxes
) -> Float[np.ndarray, "4 4"]:
    """world_from_cam with OpenCV axes from a pose as a data set stores it.

    Args:
        stored: A rigid motion.
        convention: "w2c": `stored` is camera-from-world.
        axes: Axes of the camera's frame that `stored` starts from or leads to.
    """
    world_from_cam = np.linalg.inv(stored) if convention == "w2c" else stored
    return world_from_cam @ _OPENCV_FROM_OPENGL if axes == "opengl" else world_from_cam


def parse_image_size(text: str) -> tuple[int, int]:
    """Parse `WxH` into rows and columns.

    Raises:
        ConfigError: They are not two positive numbers.
    """
    columns, cross, rows = text.lower().partition("x")
    numbers = cross and all(side.isdecimal() and len(side) < 10 for side in (columns, rows))
    if not numbers or int(rows) == 0 or int(columns) == 0:
        raise ConfigError(f"cannot read the size {text!r}", hint="columns x rows: 640x480")
    return int(rows), int(columns)


def _units_in_meter(unit: Unit) -> float:
    return MILLIMETERS["m"] / MILLIMETERS[unit] if unit in MILLIMETERS else 1.0
