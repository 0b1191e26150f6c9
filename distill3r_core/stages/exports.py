"""The files of a reconstruction, one function per format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from distill3r_core.io.cameras import FRAME
from distill3r_core.io.ply import write_ply
from distill3r_core.io.previews import colorize, compose, limits, write_picture
from distill3r_core.io.sources import evenly
from distill3r_core.stages.reconstruction import CleanCloud, Reconstruction

Format = Literal["ply"]

_PREVIEW_ROWS = 6


@dataclass(frozen=True)
class Export:
    """What an export is made of."""

    scene: Reconstruction
    cleaned: CleanCloud
    folder: Path

    @property
    def about(self) -> dict[str, str]:
        """Said in every file: frame, unit, where the scale comes from."""
        scale = self.scene.scale
        return {
            "frame": FRAME,
            "scale": "relative" if scale.unit == "relative" else "metric (metres)",
            "scale_source": scale.source,
            "cloud": self.scene.cloud_from,
        }


def export(
    scene: Reconstruction, cleaned: CleanCloud, folder: Path, formats: Sequence[Format]
) -> list[Path]:
    """Write a reconstruction in several formats, and its preview picture.

    Returns:
        The files and folders, in the order of the formats.
    """
    job = Export(scene, cleaned, folder)
    files: list[Path] = []
    for name in formats:
        files += WRITERS[name](job)
    return [*files, _preview(job)]


def _ply(job: Export) -> list[Path]:
    path = job.folder / "scene.ply"
    comments = [f"{key}: {value}" for key, value in job.about.items()]
    write_ply(path, job.cleaned.cloud, comments=[*comments, *job.scene.facts])
    return [path]


def _preview(job: Export) -> Path:
    """Photo, depth and confidence of a few views, spread over all."""
    views = [job.scene.views[index] for index in evenly(len(job.scene.views), _PREVIEW_ROWS)]
    confidences = [np.log(view.maps.confidence_global) for view in views]
    span = limits(np.concatenate([confidence.ravel() for confidence in confidences]))
    rows = [
        [
            view.loaded.fitted.image,
            colorize(view.depth, table="depth"),
            colorize(confidence, table="confidence", span=span),
        ]
        for view, confidence in zip(views, confidences, strict=True)
    ]
    picture = compose(
        rows,
        headings=("photo", "depth (near is bright)", "confidence"),
        captions=[view.loaded.name for view in views],
    )
    path = job.folder / "preview.png"
    write_picture(path, picture)
    return path


WRITERS: Mapping[Format, Callable[[Export], list[Path]]] = {"ply": _ply}
