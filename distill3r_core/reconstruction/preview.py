"""Photo, depth and confidence of a few views in one image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.io.images.decode import write_image
from distill3r_core.io.images.inputs import evenly
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.reconstruction.cameras.placements import kept_aspect
from distill3r_core.reconstruction.loaded_views import LoadedView

_MAX_ROWS = 6


@dataclass(frozen=True)
class PreviewRow:
    """A row of the preview."""

    loaded: LoadedView
    depth: Float[np.ndarray, "H W"]  # z, in any unit
    confidence: Float[np.ndarray, "H W"]  # in [1, inf); shown as its logarithm, all rows alike


def spread(views: int) -> list[int]:
    """Indices of as many views as are shown, spread over all."""
    return list(evenly(views, _MAX_ROWS))


def write_preview(folder: Path, rows: Sequence[PreviewRow]) -> Path:
    """Write `preview.png`."""
    confidences = [np.log(row.confidence) for row in rows]
    span = limits(np.concatenate([confidence.ravel() for confidence in confidences]))
    panels = [
        [
            row.loaded.fitted.image,
            colorize(row.depth, table="depth"),
            colorize(confidence, table="confidence", span=span),
        ]
        for row, confidence in zip(rows, confidences, strict=True)
    ]
    preview = compose(
        panels,
        headings=("photo", "depth (near is bright)", "confidence"),
        captions=[row.loaded.name for row in rows],
        aspects=[kept_aspect(row.loaded.fitted.placement) for row in rows],
    )
    path = folder / "preview.png"
    write_image(path, preview)
    return path
