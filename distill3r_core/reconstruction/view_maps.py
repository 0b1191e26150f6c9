"""What a student says about one view: a map from each head that was run."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.types import Placement

# The share of pixels with the least confidence that does not vote for a camera (the original's
# choice for focal lengths).
_UNSURE = 0.1
_LARGEST_CONFIDENCE = 65504.0  # in files, as in a cache


@dataclass(frozen=True)
class ViewMap:
    """A point for every pixel of a view, by one head.

    Args:
        points: In the frame of the head: the view's own camera, or the world.
        confidence: `1 + exp(logit)`, in [1, inf).
    """

    points: Float[np.ndarray, "H W 3"]
    confidence: Float[np.ndarray, "H W"]

    @property
    def transposed(self) -> "ViewMap":
        """With rows and columns swapped."""
        return ViewMap(self.points.transpose(1, 0, 2), self.confidence.T)

    @property
    def finite(self) -> Bool[np.ndarray, "H W"]:
        """Pixels whose point and confidence are numbers."""
        return np.isfinite(self.points).all(-1) & np.isfinite(self.confidence)

    @property
    def voters(self) -> Bool[np.ndarray, "H W"]:
        """All pixels but the least confident tenth, which does not vote for a camera."""
        return self.confidence >= np.nanquantile(self.confidence, _UNSURE)

    @property
    def median_confidence(self) -> float:
        """A number that JSON can hold, even where the confidence is infinite."""
        return float(min(np.nanmedian(self.confidence), _LARGEST_CONFIDENCE))


@dataclass(frozen=True)
class Maps:
    """What a student says about one view, as predicted.

    Args:
        in_world: By the global head, in the frame of the first view's camera as well as the
            student knows it. None: that head was not run.
        local: By the local head, in the view's own frame and unit. None: that head was not run.
    """

    in_world: ViewMap | None
    local: ViewMap | None

    @property
    def transposed(self) -> "Maps":
        """With rows and columns swapped."""
        in_world, local = self.in_world, self.local
        return Maps(
            None if in_world is None else in_world.transposed,
            None if local is None else local.transposed,
        )

    @property
    def known(self) -> dict[str, ViewMap]:
        """The maps there are, by the names that files give them: `global`, `local`."""
        found = {"global": self.in_world, "local": self.local}
        return {name: seen for name, seen in found.items() if seen is not None}


def turned_back(picture: LoadedView, maps: Maps) -> tuple[LoadedView, Maps]:
    """A view whose pixels were transposed for the network, with rows and columns as they were."""
    placement, image = picture.fitted.placement, picture.fitted.image
    if not placement.transposed:
        return picture, maps
    rows, columns = placement.size
    upright = Placement(box=placement.box, size=(columns, rows))
    fitted = dataclasses.replace(picture.fitted, image=image.transpose(1, 0, 2), placement=upright)
    return dataclasses.replace(picture, fitted=fitted), maps.transposed
