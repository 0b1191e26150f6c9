"""What differs between the readers of SpatialBench's 19 data sets."""

from dataclasses import dataclass
from typing import Literal

from distill3r_core.registry import Registry

Density = Literal["single", "sparse", "medium", "dense"]
_MULTIPLE = 14  # of heights that follow from the first image
_WIDTH = 518


@dataclass(frozen=True)
class CloudRules:
    """How a data set's clouds are compared; meters.

    Args:
        margin: Predicted points farther outside the box of the truth are left out.
    """

    voxel: float
    threshold: float
    margin: float | None
    tsdf_voxel: float
    tsdf_truncation: float
    tsdf_farthest: float


_ROOMS = CloudRules(4 / 512, 0.05, None, 4 / 512, 0.04, 1e6)
_HOUSES = CloudRules(0.02, 0.05, 0.1, 0.02, 0.15, 5.0)


@dataclass(frozen=True)
class Reader:
    """The reader of one data set.

    Args:
        height: Rows at a width of 518; None: it follows from the shape of the first image.
        farthest: Depth beyond this is unknown, meters.
        min_confidence: Depth below this confidence is unknown.
        quantile: Depth above this quantile of each map, zeros counted, is unknown.
        aliasing_masks: Whether `aliasing_masks/` counts.
        plain: Masks, confidences and skies are not read, one K serves all frames, and images that
            are stored distorted are undistorted.
        clouds: How fused clouds are compared; None: they are not.
    """

    name: str
    height: int | None
    farthest: float
    min_confidence: float = 0.3
    quantile: float | None = None
    aliasing_masks: bool = True
    plain: bool = False
    clouds: CloudRules | None = None

    def size(self, first: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of what it gives.

        Args:
            first: Rows and columns of the first image.
        """
        if self.height is not None:
            return self.height, _WIDTH
        rows, columns = first
        return round(rows / columns * _WIDTH / _MULTIPLE) * _MULTIPLE, _WIDTH


READERS: Registry[Reader] = Registry("SpatialBench data set")
for _reader in (
    Reader("7scenes", 392, 10.0, clouds=_ROOMS),
    Reader("adt", 518, 10.0),
    Reader("droid", 294, 1.0),
    Reader("dtu", 378, 3.0, clouds=CloudRules(0.01, 0.05, 0.1, 0.02, 0.15, 5.0)),
    Reader("eth3d", 350, 30.0),
    Reader("hiroom", 518, 10.0, aliasing_masks=False, clouds=_ROOMS),
    Reader("kitti_odometry", 154, 80.0),
    Reader("lingbot", None, 20.0),
    Reader("nrgbd", 392, 10.0, clouds=_HOUSES),
    Reader("omniworld", None, 50.0),
    Reader("rlbench", 294, 3.0),
    Reader("robolab", 294, 3.0),
    Reader("robotwin", 294, 3.0),
    Reader("ropedia", 518, 8.0, min_confidence=0.5, quantile=0.8),
    Reader("scannetpp", 378, 10.0, plain=True, clouds=_HOUSES),
    Reader("tanks_and_temples", 378, 30.0),
    Reader("tum", 392, 5.0),
    Reader("vkitti", 154, 80.0),
    Reader("waymo", 350, 50.0),
):
    READERS.add(_reader.name, _reader)
