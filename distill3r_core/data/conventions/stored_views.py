"""Views as stored, read by one convention or another, and how well two of them agree."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from jaxtyping import Float

from distill3r_core.data.conventions.intrinsics import implied_size
from distill3r_core.data.conventions.readings import (
    Conventions,
    depth_scale_of,
    world_from_stored_pose,
)
from distill3r_core.data.frame_reader import rig_for
from distill3r_core.data.layouts.records import Frame, PoseAxes, PoseConvention
from distill3r_core.geometry.depth_agreement import (
    TOLERANCE,
    DepthAgreement,
    PosedDepth,
    depth_agreement,
)


@dataclass(frozen=True, eq=False)
class StoredView:
    """What is needed of a frame to try other conventions.

    Args:
        frame: The frame; it has depth, pose and a rig.
        depth: Depth of the depth camera, not registered, in the unit of the frame.
        pose: The pose as it is stored.
    """

    frame: Frame
    depth: Float[np.ndarray, "H W"]
    pose: Float[np.ndarray, "4 4"]

    @property
    def depth_scale(self) -> float:
        """Stored depth units in a meter, as the frame is read."""
        assert self.frame.depth is not None
        return depth_scale_of(self.frame.depth, self.frame.unit)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.depth.shape[0], self.depth.shape[1]

    def read_by(self, given: Conventions) -> PosedDepth:
        """The view as it is with other conventions."""
        rig, depth = self.frame.rig, self.depth
        assert rig is not None
        if given.depth_scale is not None:
            depth = depth * np.float32(self.depth_scale / given.depth_scale)
        if given.intrinsics_size is not None:
            rig = replace(rig, size=given.intrinsics_size)
        rig = rig_for(rig, self.size)
        pose = world_from_stored_pose(
            self.pose,
            convention=given.pose_convention or self.frame.pose_convention,
            axes=given.pose_axes or self.frame.pose_axes,
        )
        return PosedDepth(depth, rig.color if rig.depth is None else rig.depth, pose)

    def other_poses(self) -> Iterator[Conventions]:
        """Readings of the pose other than the frame's."""
        for convention in get_args(PoseConvention):
            for axes in get_args(PoseAxes):
                inverted = convention != self.frame.pose_convention
                flipped = axes != self.frame.pose_axes
                if inverted or flipped:
                    yield Conventions(
                        pose_convention=convention if inverted else None,
                        pose_axes=axes if flipped else None,
                    )

    def other_sizes(self) -> Iterator[Conventions]:
        """Sizes other than the frame's that K may belong to."""
        rig = self.frame.rig
        assert rig is not None
        size = implied_size(rig.color, self.size)
        if size is not None and size != rig.size:
            yield Conventions(intrinsics_size=size)
        if rig.size is not None and rig.size != self.size:  # K is scaled although it may fit
            yield Conventions(intrinsics_size=self.size)


ViewPair = tuple[StoredView, StoredView]


def carried(
    source: StoredView, target: StoredView, given: Conventions, *, tolerance: float = TOLERANCE
) -> DepthAgreement:
    """Agreement of two views by the given conventions."""
    return depth_agreement(source.read_by(given), target.read_by(given), tolerance=tolerance)


def median_agreement(
    pairs: Sequence[ViewPair], given: Conventions, *, tolerance: float = TOLERANCE
) -> float:
    """Median agreement over pairs, carried both ways."""
    ways = [way for first, second in pairs for way in ((first, second), (second, first))]
    shares = [carried(*way, given, tolerance=tolerance).agreement for way in ways]
    return float(np.median(shares))
