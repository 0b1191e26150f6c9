"""One picture of two reconstructions: clouds from one place, and depth beside the photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from distill3r_core.io.exports.cloud_picture import draw_cloud
from distill3r_core.io.exports.html_page import PagePart, first_eye, write_page
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import BACKGROUND, colorize, compose, limits
from distill3r_core.reconstruction.cameras.placements import kept_aspect
from distill3r_core.reconstruction.point_cloud import CleanCloud
from distill3r_core.reconstruction.preview import spread
from distill3r_core.reconstruction.reconstruction import Reconstruction

PICTURE, PAGE = "compare.png", "compare.html"
_CLOUD_SIZE = (330, 440)  # rows and columns


@dataclass(frozen=True)
class NamedCloud:
    """A reconstruction in the common world, with its cloud and what it is called."""

    name: str
    scene: Reconstruction
    cleaned: CleanCloud

    @property
    def part(self) -> PagePart:
        """The same for a page."""
        return PagePart(self.name, self.cleaned.cloud, self.cleaned.confidence, self.scene.cameras)


def write_picture(path: Path, models: Sequence[NamedCloud], *, caption: str) -> Path:
    """Write both clouds from one place, and below them photo and depth of a few views.

    Args:
        models: In one frame and unit; the first one's views are shown.
        caption: What the picture says below the clouds, such as the residual.
    """
    parts = [model.part for model in models]
    eye = first_eye(parts)
    clouds = compose(
        [[draw_cloud(part.cloud, eye, size=_CLOUD_SIZE) for part in parts]],
        headings=[model.name for model in models],
        captions=[caption],
        height=_CLOUD_SIZE[0],
    )
    write_image(path, _stacked(clouds, _depths(models)))
    return path


def write_comparison_page(
    path: Path, models: Sequence[NamedCloud], *, title: str, about: Mapping[str, str]
) -> Path:
    """Write both clouds as one page, side by side or over each other."""
    write_page(path, [model.part for model in models], title=title, about=about)
    return path


def _depths(models: Sequence[NamedCloud]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Photo and depth of the views that all models have placed; one color scale for a view."""
    by_name = [{view.camera.name: view for view in model.scene.views} for model in models]
    common = [name for name in by_name[0] if all(name in views for views in by_name)]
    rows, captions, aspects = [], [], []
    for name in (common[index] for index in spread(len(common))):
        views = [of_model[name] for of_model in by_name]
        depths = [view.depth for view in views]
        span = limits(np.concatenate([depth[depth > 0] for depth in depths]))
        panels = [colorize(depth, table="depth", span=span) for depth in depths]
        rows.append([views[0].loaded.fitted.image, *panels])
        captions.append(name)
        aspects.append(kept_aspect(views[0].loaded.fitted.placement))
    return compose(
        rows,
        headings=("photo", *(f"depth: {model.name}" for model in models)),
        captions=captions,
        aspects=aspects,
    )


def _stacked(*pictures: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Pictures below each other, each at the left."""
    width = max(picture.shape[1] for picture in pictures)
    wide = []
    for picture in pictures:
        whole = np.full((len(picture), width, 3), BACKGROUND, np.uint8)
        whole[:, : picture.shape[1]] = picture
        wide.append(whole)
    return np.concatenate(wide)
