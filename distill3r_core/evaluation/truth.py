"""What predictions are compared with: the true points and cameras of one sequence."""

import hashlib
from dataclasses import asdict, dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.evaluation.clouds.tsdf import VolumeRules
from distill3r_core.types import ImagePlacement, PreparedView, Unit, View

MIN_POINTS = 3  # of a view; fewer do not determine a similarity
MILLIMETERS = 1000.0  # per meter


@dataclass(frozen=True)
class TrueSurface:
    """The surface of a scene, as its data set gives it, and how predictions are compared with it.

    Args:
        points: Points on it, in the world of the poses.
        volume: How depth maps are fused.
        margin: Predicted points farther outside the box of the truth are left out; None: all count.
    """

    points: Float[Tensor, "K 3"]
    volume: VolumeRules
    voxel: float  # side of the voxels whose mean points are compared
    threshold: float  # distances below this count
    margin: float | None = None

    @property
    def content(self) -> str:
        """Hash of the points and of how predictions are compared with them."""
        rules = (asdict(self.volume), self.voxel, self.threshold, self.margin)
        digest = hashlib.blake2b(repr(rules).encode(), digest_size=16)
        digest.update(self.points.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class SourceView:
    """A view before it was brought to the grid.

    Args:
        view: Without depth.
        placement: Where the grid lies in its image.
    """

    view: View
    placement: ImagePlacement


@dataclass(frozen=True)
class Truth:
    """The views that a model sees in one pass, with their ground truth at the model's grid.

    Args:
        world: Name of the world whose frame the poses are in: a prefix of the names of all
            sequences that share it.
        poses: `world_from_cam` that predicted poses are compared with, float64, in meters, in any
            frame that the views share; None where they are not known.
        world_poses: The same in the frame of `world`; None where they are not known there.
        sources: The views before they were brought to the grid; () where these are not known.
        similarities: `[sR | t]` that carries the points of each view into the frame of `poses`;
            None: the poses themselves do.
        surface: Where the data set has one and the protocol asks for it.
    """

    name: str
    world: str
    view_names: tuple[str, ...]
    views: tuple[PreparedView, ...]
    points: Float[Tensor, "N H W 3"]  # in each camera's frame; anything outside the mask
    mask: Bool[Tensor, "N H W"]  # pixels where the truth is known
    intrinsics: Float[Tensor, "N 3 3"]
    poses: Float[Tensor, "N 4 4"] | None
    unit: Unit  # unit of the points: "m" or "none"
    contents: tuple[str, ...]  # hash of each frame: pixels, depth, K and pose
    source: str = ""  # label of the cache that it is from, where a run has several
    world_poses: Float[Tensor, "N 4 4"] | None = None
    similarities: Float[Tensor, "N 3 4"] | None = None
    sources: tuple[SourceView, ...] = ()
    surface: TrueSurface | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """All that decides its figures: its name, its frames, and the surface that it has."""
        surface = () if self.surface is None else (self.surface.content,)
        return (self.name, *self.contents, *surface)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.points.shape[1], self.points.shape[2]

    @property
    def global_from_local(self) -> Float[Tensor, "N 3 4"] | None:
        """What carries each view's points into one frame; None where poses are not known."""
        if self.similarities is not None or self.poses is None:
            return self.similarities
        return self.poses[:, :3]
