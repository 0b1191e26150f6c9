"""The point maps of one view, and which of their pixels count."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.types import ImagePlacement, PointMap

# The share of pixels with the least confidence that does not take part in the estimate of a
# camera (the original's choice for focal lengths).
_MIN_CONFIDENT = 0.1
_LARGEST_CONFIDENCE = 65504.0  # in files, as in a cache

Map = PointMap[np.ndarray]


@dataclass(frozen=True)
class ViewMaps:
    """What a model predicts for one view. Not both are None.

    Args:
        global_map: In the frame of the first view's camera, as well as the model knows it. None:
            not predicted.
    """

    global_map: Map | None
    local_map: Map | None  # in the frame and unit of the view's own camera. None: not predicted
    intrinsics: Float[np.ndarray, "3 3"] | None = None  # K of the maps, where the model knows it

    @property
    def known(self) -> dict[str, Map]:
        """The maps that were predicted, by the names that files give them: `global`, `local`."""
        maps = {"global": self.global_map, "local": self.local_map}
        return {name: points for name, points in maps.items() if points is not None}


def finite_pixels(points: Map) -> Bool[np.ndarray, "H W"]:
    """Pixels whose point and confidence are finite."""
    return np.isfinite(points.points).all(-1) & np.isfinite(points.confidence)


def confident_pixels(points: Map) -> Bool[np.ndarray, "H W"]:
    """All pixels but the least confident tenth, which takes no part in the estimate of a camera."""
    return points.confidence >= np.nanquantile(points.confidence, _MIN_CONFIDENT)


def median_confidence(points: Map) -> float:
    """A number that JSON can hold, even where the confidence is infinite."""
    return float(min(np.nanmedian(points.confidence), _LARGEST_CONFIDENCE))


def counted_map(view: LoadedView, points: Map) -> Map:
    """A view's map with NaN outside its mask: what takes part in fits and checks."""
    if view.mask is None:
        return points
    return PointMap(
        np.where(view.mask[..., None], points.points, np.nan),
        np.where(view.mask, points.confidence, np.nan),
    )


def counted_pixels(view: LoadedView, points: Map) -> Bool[np.ndarray, "H W"]:
    """Pixels of a view that its mask leaves and that have a finite point."""
    finite = finite_pixels(points)
    return finite if view.mask is None else finite & view.mask


def undo_transpose(view: LoadedView, maps: ViewMaps) -> tuple[LoadedView, ViewMaps]:
    """Swap rows and columns back where the image was transposed for the network."""
    placement, image = view.fitted.placement, view.fitted.image
    if not placement.transposed:
        return view, maps
    rows, columns = placement.size
    upright = ImagePlacement(box=placement.box, size=(columns, rows))
    fitted = dataclasses.replace(view.fitted, image=image.transpose(1, 0, 2), placement=upright)
    swapped = [
        None if points is None else PointMap(points.points.transpose(1, 0, 2), points.confidence.T)
        for points in (maps.global_map, maps.local_map)
    ]
    intrinsics = None if maps.intrinsics is None else maps.intrinsics[[1, 0, 2]]
    mask = None if view.mask is None else view.mask.T
    upright_maps = ViewMaps(swapped[0], swapped[1], intrinsics)
    return dataclasses.replace(view, fitted=fitted, mask=mask), upright_maps
