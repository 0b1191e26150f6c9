"""Views of which only local maps are known: each in its own camera's frame, with no world."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distill3r_core.io.exports.cameras import Pinhole
from distill3r_core.reconstruction.cameras.camera_options import CameraOptions
from distill3r_core.reconstruction.cameras.pinholes import (
    local_intrinsics,
    pinhole_camera,
    points_on_rays,
)
from distill3r_core.reconstruction.formats import Need
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.reliability.verdict import Reliability
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.reconstruction.view_maps import Map, ViewMaps, counted_pixels, undo_transpose
from distill3r_core.report import Failure, Progress, Silent


@dataclass(frozen=True)
class LocalView:
    """A view by itself."""

    loaded: LoadedView
    local_map: Map  # its map, in its own camera's frame and a unit of its own
    camera: Pinhole  # camera of the full-size image; its pose is not known
    predicted: Map  # the map before its points were moved to the rays of a given camera

    @property
    def depth(self) -> Float[np.ndarray, "H W"]:
        """z in the camera's frame, in the view's own unit."""
        return self.local_map.points[..., 2]

    @property
    def valid_mask(self) -> Bool[np.ndarray, "H W"]:
        """Pixels that the mask of the image leaves and whose depth is finite."""
        return counted_pixels(self.loaded, self.local_map)


@dataclass(frozen=True)
class LocalViews:
    """Views each by itself."""

    views: tuple[LocalView, ...]  # in order
    facts: tuple[str, ...] = ()  # about the model, for the headers of files
    reliability: Reliability | None = None  # None: not judged

    @property
    def scale(self) -> Scale:
        """What a length of 1 means."""
        return Scale(source="lengths of one view compare with each other only")

    @property
    def about(self) -> dict[str, str]:
        """What every file states: frame, unit, and that there are no poses."""
        about = {
            "frame": "OpenCV axes (x right, y down, z forward) of each view's own camera",
            "poses": "not known, as the local head was run alone",
            **self.scale.as_plain(),
        }
        return about if self.reliability is None else about | {"reliability": self.reliability.text}

    @property
    def has(self) -> frozenset[Need]:
        """What formats may need of it: nothing."""
        return frozenset()

    def confidence_of(self, index: int) -> Float[np.ndarray, "H W"]:
        """Confidence of a view's points."""
        return self.views[index].local_map.confidence


def find_local_cameras(
    loaded: Sequence[LoadedView],
    maps: Sequence[ViewMaps],
    *,
    cameras: CameraOptions | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[LocalView, ...], tuple[Failure, ...]]:
    """Views with their own intrinsics, and failures of those that have no finite point.

    Args:
        loaded: Views in order.
        cameras: What is known about the cameras; None: each view has a focal length of its own.
    """
    progress = progress or Silent()
    progress.begin("cameras", total=len(loaded), unit="views")
    views, failed = [], []
    upright = [undo_transpose(*each) for each in zip(loaded, maps, strict=True)]
    known = local_intrinsics(
        [view for view, _ in upright], [each for _, each in upright], cameras or CameraOptions()
    )
    for (view, maps_of_view), intrinsics in zip(upright, known, strict=True):
        local_map = maps_of_view.local_map
        assert local_map is not None, "these are views of the local head"
        if counted_pixels(view, local_map).any():
            camera = pinhole_camera(view, intrinsics, maps_of_view)
            predicted = local_map
            if intrinsics.imposed:
                local_map = points_on_rays(view, local_map, intrinsics.matrix)
            views.append(LocalView(view, local_map, camera, predicted))
        else:
            failed.append(Failure(str(view.path or view.name), "no point of it is a number"))
        progress.advance()
    return tuple(views), tuple(failed)
