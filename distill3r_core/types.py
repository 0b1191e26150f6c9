"""The shapes and records that stages hand to each other.

Axes: B samples, N views, H W pixels. Frames: OpenCV axes (x right, y down, z forward); the global
frame is that of view 0's camera, the anchor. Pixel centers are at +0.5. The records without tensors
come from `views`, which does not load torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.views import ImagePlacement, Unit, View

__all__ = [
    "AlignmentFacts",
    "Array",
    "ConfidenceMap",
    "ImagePlacement",
    "Images",
    "Mask",
    "PointMap",
    "PointMaps",
    "Points",
    "PreparedView",
    "RawMaps",
    "TeacherTargets",
    "Unit",
    "View",
]

Images = Float[Tensor, "B N 3 H W"]  # RGB in [0, 1]
Points = Float[Tensor, "B N H W 3"]
ConfidenceMap = Float[Tensor, "B N H W"]  # 1 + exp(logit), in [1, inf)
Mask = Bool[Tensor, "B N H W"]

Array = TypeVar("Array", Tensor, np.ndarray)


@dataclass(frozen=True)
class PreparedView:
    """A view at its teacher's input size: what `Teacher.prepare` gives and `predict` takes.

    Args:
        image: RGB in [0, 1].
        placement: Where its pixels lie in the view's image.
        intrinsics: K of `image`, where the view is calibrated.
        depth: As in `View`, resampled (nearest) to the size of `image`.
        world_from_cam: As in `View`.
        unit: As in `View`.
        sample: As in `View`.
        index: As in `View`.
    """

    image: Float[Tensor, "3 H W"]
    placement: ImagePlacement
    intrinsics: Float[Tensor, "3 3"] | None = None
    depth: Float[Tensor, "H W"] | None = None
    world_from_cam: Float[Tensor, "4 4"] | None = None
    unit: Unit = "none"
    sample: str = ""
    index: int = 0


@dataclass(frozen=True)
class AlignmentFacts:
    """What the alignment of a sample's pairs came to.

    Args:
        residual: Mean weighted distance between the pairs' points and those of the views, where
            the geometric mean of the pairs' scales is 0.5; 0 for two views in closed form.
        unplaced: Number of views without a pose; they have no valid pixel.
    """

    residual: float
    unplaced: int


@dataclass(frozen=True)
class ViewsInScene:
    """What a model that knows a scene says of views in the scene's own frame.

    Args:
        points: In the frame and unit of the scene, that of the data's poses.
        world_from_cam: Poses in the same; NaN where a view has none.
        radius: Root mean square radius of the scene, in its unit; None: not known.
    """

    points: Sequence[Float[Tensor, "_H _W 3"]]
    world_from_cam: Float[Tensor, "N 4 4"]
    radius: float | None = None


@dataclass(frozen=True)
class RawMaps:
    """What a teacher predicts, one entry per view, each at the size of its prepared image
    (the sizes of two views may differ, which the underscores say to the shape checker).

    Args:
        points_local: In each camera's own frame; anything where invalid.
        confidence_local: `1 + exp(logit)`, in [1, inf).
        confidence_global: The same for the global map.
        points_global: In the anchor's frame; None where `global_from_local` says it all.
        valid_mask: Pixels the teacher vouches for; None: all that are finite.
        global_from_local: `[sR | t]` that carries a view's local points into the anchor's frame;
            None: to be fitted to `points_global`.
        intrinsics: K of each map, where the teacher knows it.
        alignment: What an alignment of several predictions came to, where there was one.
        scene: The views in the frame of a scene that the model knows; None: it knows none.
        local_only: Whether the views have no known place in a common frame; `global_from_local` is
            then the identity.
    """

    points_local: Sequence[Float[Tensor, "_H _W 3"]]
    confidence_local: Sequence[Float[Tensor, "_H _W"]]
    confidence_global: Sequence[Float[Tensor, "_H _W"]]
    points_global: Sequence[Float[Tensor, "_H _W 3"]] | None = None
    valid_mask: Sequence[Bool[Tensor, "_H _W"]] | None = None
    global_from_local: Float[Tensor, "N 3 4"] | None = None
    intrinsics: Float[Tensor, "N 3 3"] | None = None
    alignment: AlignmentFacts | None = None
    scene: ViewsInScene | None = None
    local_only: bool = False


@dataclass(frozen=True)
class TeacherTargets:
    """What the teacher said, as the student will see it. Leading axes, if any, are batches.

    Args:
        points_local: In each camera's own frame. Zero outside the mask.
        confidence_local: In [1, 65504]; weighs the loss of the local map.
        confidence_global: The same for the global map, as seen from the first anchor (view 0 of
            the cached sample) whatever the anchor now is.
        valid_mask: True where a pixel counts.
        global_from_local: `[sR | t]`, float32: the similarity that carries a view's local map
            into the anchor's frame.
        stored_points_global: The global map of a teacher whose global map is independent of its
            local one; None where it is the similarity of the local one.
        intrinsics: K of each map, where the local map is depth times the pixel's ray.
        local_only: Views without a place in a common frame: their similarity is the identity, and
            what compares global points leaves them out. None: there are none.
    """

    points_local: Float[Tensor, "*batch N H W 3"]
    confidence_local: Float[Tensor, "*batch N H W"]
    confidence_global: Float[Tensor, "*batch N H W"]
    valid_mask: Bool[Tensor, "*batch N H W"]
    global_from_local: Float[Tensor, "*batch N 3 4"]
    stored_points_global: Float[Tensor, "*batch N H W 3"] | None = None
    intrinsics: Float[Tensor, "*batch N 3 3"] | None = None
    local_only: Bool[Tensor, "*batch N"] | None = None

    @property
    def global_mask(self) -> Bool[Tensor, "*batch N H W"]:
        """Valid pixels of the views that have a place in the anchor's frame."""
        if self.local_only is None:
            return self.valid_mask
        return self.valid_mask & ~self.local_only[..., None, None]

    @cached_property  # the loss, the metrics and the validation of a batch all read it
    def points_global(self) -> Float[Tensor, "*batch N H W 3"]:
        """Points in the anchor's frame, zero outside the mask; computed once."""
        if self.stored_points_global is not None:
            return self.stored_points_global
        linear = self.global_from_local[..., :3].mT[..., None, :, :]  # (..., N, 1, 3, 3)
        offset = self.global_from_local[..., None, None, :, 3]
        moved = self.points_local @ linear + offset
        return torch.where(self.valid_mask[..., None], moved, 0.0)


@dataclass(frozen=True)
class PointMap(Generic[Array]):
    """A 3D point for every pixel, and how sure a network is of it.

    Tensors while a network computes with them, arrays from the export on.

    Args:
        points: In the frame of whoever made the map: the view's camera, the anchor's, or a scene's.
        confidence: `1 + exp(logit)`, in [1, inf): not a probability.
    """

    points: Float[Array, "*axes H W 3"]
    confidence: Float[Array, "*axes H W"]


@dataclass(frozen=True)
class PointMaps:
    """What a student predicts for every pixel of every view, in float32.

    Both fields of a map are None where the head that predicts it was not run.

    Args:
        points_global: In the frame of view 0's camera.
        points_local: In the view's own camera frame.
        confidence_global: `1 + exp(logit)`, in [1, inf): not a probability.
        confidence_local: The same for the local map.
        log_size: Logarithm of each view's size, where that is predicted apart from the shape.
        log_resized_global: Then, logarithm of the factor that brought the global maps there.
        log_resized_local: The same of the local map of each view.
    """

    points_global: Float[Tensor, "*batch N H W 3"] | None
    points_local: Float[Tensor, "*batch N H W 3"] | None
    confidence_global: Float[Tensor, "*batch N H W"] | None
    confidence_local: Float[Tensor, "*batch N H W"] | None
    log_size: Float[Tensor, "*batch N"] | None = None
    log_resized_global: Float[Tensor, "*batch N"] | None = None
    log_resized_local: Float[Tensor, "*batch N"] | None = None

    @classmethod
    def from_maps(
        cls, global_map: PointMap[Tensor] | None, local_map: PointMap[Tensor] | None
    ) -> "PointMaps":
        """The maps of the two heads; None for a head that was not run."""
        return cls(
            points_global=None if global_map is None else global_map.points,
            points_local=None if local_map is None else local_map.points,
            confidence_global=None if global_map is None else global_map.confidence,
            confidence_local=None if local_map is None else local_map.confidence,
        )

    @property
    def global_map(self) -> PointMap[Tensor] | None:
        """The map in the frame of view 0's camera."""
        if self.points_global is None or self.confidence_global is None:
            return None
        return PointMap(self.points_global, self.confidence_global)

    @property
    def local_map(self) -> PointMap[Tensor] | None:
        """The map in each view's own camera frame."""
        if self.points_local is None or self.confidence_local is None:
            return None
        return PointMap(self.points_local, self.confidence_local)

    @property
    def both(self) -> tuple[PointMap[Tensor], PointMap[Tensor]]:
        """The global and the local map, of a student whose two heads were run."""
        global_map, local_map = self.global_map, self.local_map
        assert global_map is not None and local_map is not None, "a head was not run"
        return global_map, local_map
