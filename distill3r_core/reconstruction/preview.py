"""Photo, depth and confidence of a few views in one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.inputs import evenly
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.reconstruction.loaded_views import LoadedView

_MOST_ROWS = 6

View = TypeVar("View")


@dataclass(frozen=True)
class Shown:
    """A row of the picture.

    Args:
        loaded: The view, whose maps are not transposed.
        depth: z, in any unit.
        confidence: In [1, inf); shown as its logarithm, all rows alike.
    """

    loaded: LoadedView
    depth: Float[np.ndarray, "H W"]
    confidence: Float[np.ndarray, "H W"]

    @property
    def aspect(self) -> float:
        """Width over height of what the student saw, before it was squashed."""
        left, top, right, bottom = self.loaded.fitted.placement.box
        return (right - left) / (bottom - top)


def spread(views: Sequence[View]) -> list[View]:
    """As many views as are shown, spread over all."""
    return [views[index] for index in evenly(len(views), _MOST_ROWS)]


def write_preview(folder: Path, shown: Sequence[Shown]) -> Path:
    """Write `preview.png`."""
    confidences = [np.log(view.confidence) for view in shown]
    span = limits(np.concatenate([confidence.ravel() for confidence in confidences]))
    rows = [
        [
            view.loaded.fitted.image,
            colorize(view.depth, table="depth"),
            colorize(confidence, table="confidence", span=span),
        ]
        for view, confidence in zip(shown, confidences, strict=True)
    ]
    picture = compose(
        rows,
        headings=("photo", "depth (near is bright)", "confidence"),
        captions=[view.loaded.name for view in shown],
        aspects=[view.aspect for view in shown],
    )
    path = folder / "preview.png"
    write_image(path, picture)
    return path
