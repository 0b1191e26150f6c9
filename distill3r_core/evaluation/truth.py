"""What predictions are compared with: the true points and cameras of one sequence."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.types import PreparedView, Unit

MIN_POINTS = 3  # of a view; fewer do not determine a similarity
MILLIMETERS = 1000.0  # per meter


@dataclass(frozen=True)
class Truth:
    """The views that a model sees in one pass, with their ground truth at the model's grid.

    Args:
        world: Name of the world whose frame the poses are in: a prefix of the names of all
            sequences that share it.
        poses: `world_from_cam`, float64, in meters; None where they are not known.
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

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.points.shape[1], self.points.shape[2]
