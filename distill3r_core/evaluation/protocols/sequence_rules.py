"""Which sequences of a data set a protocol leaves out, before it draws any frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts import Frame
from distill3r_core.data.matrix_files import read_pose
from distill3r_core.errors import ImageError

_OPENCV_FROM_OPENGL = np.array([1.0, -1.0, -1.0])
# PyTorch3D's camera looks along +z with x to the left and y up.
_PYTORCH3D_FROM_OPENCV = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SequenceRule:
    """What a sequence must be like to be scored, as VGGT's evaluation of CO3D has it.

    All frames of a sequence decide, not only those that are drawn, and a sequence that is left
    out takes no number from the generator that draws frames of the others.

    Args:
        min_frames: A sequence with fewer frames is too short.
        max_translation: A sequence is broken where the coordinates of a frame's camera-from-world
            translation, in PyTorch3D's axes and the unit of the poses, sum up to more.
    """

    min_frames: int
    max_translation: float

    def problem(self, frames: Sequence[Frame]) -> str | None:
        """Why a sequence is left out; None where it is not."""
        if len(frames) < self.min_frames:
            return f"{len(frames)} frames, and {self.min_frames} are needed"
        for frame in frames:
            translation = _translation(frame)
            total = 0.0 if translation is None else float(translation.sum())
            if total > self.max_translation:
                return (
                    f"the translation of its frame {frame.name} sums up to {total:.3g}: sequences "
                    f"beyond {self.max_translation:.0e} are broken"
                )
        return None


def _translation(frame: Frame) -> Float[np.ndarray, "3"] | None:
    """Camera-from-world translation with PyTorch3D's axes; None where no pose can be read."""
    if frame.pose is None:
        return None
    try:
        # Not made exact, nor refused for being far off: that is what is looked for here.
        stored = read_pose(frame.pose) if isinstance(frame.pose, Path) else frame.pose
    except ImageError:
        return None  # named when the frame is drawn
    turn, translation = stored[:3, :3], stored[:3, 3]
    if frame.pose_convention == "c2w":
        translation = -turn.T @ translation
    if frame.pose_axes == "opengl":
        translation = translation * _OPENCV_FROM_OPENGL
    return translation * _PYTORCH3D_FROM_OPENCV
