"""A reconstruction: views with their point maps and cameras in one world frame, and its cloud."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distill3r_core.io.exports.cameras import FRAME, Camera
from distill3r_core.reconstruction.formats import Need
from distill3r_core.reconstruction.head_options import CloudSource
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.refinement.summary import RefinementSummary
from distill3r_core.reconstruction.reliability.verdict import Reliability
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.reconstruction.view_maps import Map, counted_pixels
from distill3r_core.types import PointMap


@dataclass(frozen=True)
class AlignedMap:
    """The local map of a view, and the similarity that aligns it with the world.

    Args:
        local_map: In the view's own frame and unit.
        world_from_local: The similarity `[sR | t]` that carries its points into the world.
        predicted: The local map before its points were moved to the rays of another camera; None:
            they were not.
    """

    local_map: Map
    world_from_local: Float[np.ndarray, "3 4"]
    predicted: Map | None = None

    @property
    def world_map(self) -> Map:
        """The local map, carried into the world."""
        linear, shift = np.split(self.world_from_local.astype(np.float32), [3], axis=1)
        points = self.local_map.points @ linear.T + shift[:, 0]
        return PointMap(points, self.local_map.confidence)

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """z of the local points in the world's unit."""
        scale = np.cbrt(np.linalg.det(self.world_from_local[:, :3]))
        return (scale * self.local_map.points[..., 2]).astype(np.float32)


@dataclass(frozen=True)
class PosedView:
    """A view with its place in the world.

    Args:
        agreement: Distance of the closed-form pose from PnP's: degrees, and the distance of the
            two camera centers as a share of the view's median depth. None where there are not both.
    """

    loaded: LoadedView
    global_map: Map  # the global map, in the world's frame and unit
    aligned: AlignedMap | None  # the local map; None: not predicted
    camera: Camera  # camera of the full-size image, in the world's frame and unit
    agreement: tuple[float, float] | None = None

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """z in the world's unit.

        By the local map, where there is one: in the view's camera as far as that is the
        similarity's; PnP's lies elsewhere. Else of the global points in the camera.
        """
        if self.aligned is not None:
            return self.aligned.depth
        pose = self.camera.world_from_cam
        return ((self.global_map.points - pose[:3, 3]) @ pose[:3, 2]).astype(np.float32)

    @property
    def valid_mask(self) -> Bool[np.ndarray, "H W"]:
        """Pixels that the mask of the image leaves and whose depth is finite."""
        points = self.global_map if self.aligned is None else self.aligned.local_map
        return counted_pixels(self.loaded, points)


@dataclass(frozen=True)
class Reconstruction:
    """Views in the frame of the first view's camera (OpenCV axes), or of a scene.

    Args:
        cloud_from: Which points make the cloud: the local ones, aligned with the world by each
            view's similarity, which lie nearer to the truth on real frames (docs/benchmarks.md),
            or those of the global map, which are there where no local map was predicted.
    """

    views: tuple[
        PosedView, ...
    ]  # in order; where there is no scene, the first one's pose is the identity
    scale: Scale = dataclasses.field(default_factory=Scale)  # what a length of 1 means
    cloud_from: CloudSource = "aligned"
    frame: str = FRAME  # what poses and points are in, in words
    facts: tuple[str, ...] = ()  # about the model, for the headers of files
    reliability: Reliability | None = None  # None: not judged
    refinement: RefinementSummary = dataclasses.field(
        default_factory=lambda: RefinementSummary("left out")
    )

    def map_of(self, view: PosedView) -> Map:
        """The points that a view adds to the cloud."""
        if self.cloud_from == "global":
            return view.global_map
        assert view.aligned is not None, "only local points can be aligned"
        return view.aligned.world_map

    def confidence_of(self, index: int) -> Float[np.ndarray, "H W"]:
        """Confidence of the points that a view adds to the cloud."""
        return self.map_of(self.views[index]).confidence

    @property
    def cameras(self) -> list[Camera]:
        """The cameras of the views, in order."""
        return [view.camera for view in self.views]

    @property
    def about(self) -> dict[str, str]:
        """What every file of the reconstruction states: frame, unit, where the scale comes from."""
        about = {"frame": self.frame, **self.scale.as_plain(), "cloud": self.cloud_from}
        about["pose_refinement"] = self.refinement.text
        return about if self.reliability is None else about | {"reliability": self.reliability.text}

    @property
    def has(self) -> frozenset[Need]:
        """What formats may need of it."""
        return frozenset(("poses", "cloud"))

    def scaled(self, factor: float, scale: Scale) -> "Reconstruction":
        """The same reconstruction in another unit."""
        views = []
        for view in self.views:
            pose = view.camera.world_from_cam.copy()
            pose[:3, 3] *= factor
            points = (factor * view.global_map.points).astype(np.float32)
            aligned = view.aligned
            if aligned is not None:
                similarity = factor * aligned.world_from_local
                aligned = dataclasses.replace(aligned, world_from_local=similarity)
            views.append(
                dataclasses.replace(
                    view,
                    global_map=dataclasses.replace(view.global_map, points=points),
                    aligned=aligned,
                    camera=dataclasses.replace(view.camera, world_from_cam=pose),
                )
            )
        return dataclasses.replace(self, views=tuple(views), scale=scale)
