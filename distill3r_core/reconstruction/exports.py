"""The files of a reconstruction, one function per format, all in one world frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from distill3r_core.errors import RequestError
from distill3r_core.io.exports.cameras import FRAME, write_cameras
from distill3r_core.io.exports.colmap import Observations, write_colmap
from distill3r_core.io.exports.glb import write_glb
from distill3r_core.io.exports.html_page import write_page
from distill3r_core.io.exports.nerfstudio import write_transforms
from distill3r_core.io.exports.ply import write_ply
from distill3r_core.io.exports.upright_images import write_upright
from distill3r_core.io.exports.view_arrays import write_depth_maps, write_predictions
from distill3r_core.reconstruction.loaded_views import full_pictures
from distill3r_core.reconstruction.pinholes import full_pixels, map_intrinsics
from distill3r_core.reconstruction.preview import Shown, spread, write_preview
from distill3r_core.reconstruction.reconstruction import CleanCloud, Reconstruction, SolvedView

Format = Literal["ply", "glb", "colmap", "nerfstudio", "npz", "depth", "html"]

_LOCAL = (
    "in the view's own frame and the student's own unit; world = world_from_local @ [x, y, z, 1]"
)
_NO_LOCAL = (
    "points_local, confidence_local, points_aligned, world_from_local: the local head was not run"
)


@dataclass(frozen=True)
class Export:
    """What an export is made of.

    Args:
        scene: The views.
        cleaned: The points.
        folder: Where files go.
        title: Of the scene.
    """

    scene: Reconstruction
    cleaned: CleanCloud
    folder: Path
    title: str

    @property
    def about(self) -> dict[str, str]:
        """Said in every file: frame, unit, where the scale comes from."""
        return {"frame": FRAME, **self.scene.scale.as_plain(), "cloud": self.scene.cloud_from}

    @property
    def comments(self) -> list[str]:
        """The same as lines, with what is known of the model."""
        facts = [*(f"{key}: {value}" for key, value in self.about.items()), *self.scene.facts]
        return [" ".join(fact.split()) for fact in facts]  # a license may have lines of its own

    @cached_property
    def pictures(self) -> list[Path]:
        """Upright full-size copies of the pictures, in the order of the views; written once."""
        places = {view.loaded.name: index for index, view in enumerate(self.scene.views)}
        files = [Path()] * len(places)
        for loaded, pixels in full_pictures([view.loaded for view in self.scene.views]):
            source = loaded.path if loaded.frame is None else None
            files[places[loaded.name]] = write_upright(
                self.folder / "images", loaded.name, pixels, source=source
            )
        return files


def export(
    scene: Reconstruction,
    cleaned: CleanCloud,
    folder: Path,
    formats: Sequence[str],
    *,
    title: str = "scene",
    on_format: Callable[[str], None] = lambda name: None,
) -> list[Path]:
    """Write a reconstruction in several formats, its cameras and its preview picture.

    Args:
        scene: The views.
        cleaned: Their points.
        folder: Where files go.
        formats: Which.
        title: Of the scene.
        on_format: Called with each format that is written.

    Returns:
        The files, in the order of the formats.

    Raises:
        ImageError: A picture that is to be copied has changed since it was read.
        RequestError: A format has another name.
    """
    if unknown := [name for name in formats if name not in WRITERS]:
        raise RequestError(f"no format {unknown[0]!r}", hint=f"formats: {', '.join(WRITERS)}")
    job = Export(scene, cleaned, folder, title)
    files: dict[Path, None] = {}
    for name in formats:
        files |= dict.fromkeys(WRITERS[name](job))
        on_format(name)
    path = folder / "cameras.json"
    write_cameras(path, scene.cameras, about=job.about)
    shown = [Shown(v.loaded, v.depth, scene.map_of(v).confidence) for v in spread(scene.views)]
    return [*files, path, write_preview(folder, shown)]


def _ply(job: Export) -> list[Path]:
    path = job.folder / "scene.ply"
    write_ply(path, job.cleaned.cloud, comments=job.comments)
    return [path]


def _glb(job: Export) -> list[Path]:
    path = job.folder / "scene.glb"
    about = job.about | {"frame": f"y up: half a turn about x from {job.about['frame']}"}
    write_glb(path, job.cleaned.cloud, job.scene.cameras, about=about)
    return [path]


def _colmap(job: Export) -> list[Path]:
    files = write_colmap(
        job.folder / "sparse" / "0",
        job.scene.cameras,
        [path.name for path in job.pictures],
        job.cleaned.cloud,
        _observations(job),
        comments=job.comments,
    )
    return [*files, *job.pictures]


def _nerfstudio(job: Export) -> list[Path]:
    path = job.folder / "transforms.json"
    (cloud,) = _ply(job)
    write_transforms(
        path,
        job.scene.cameras,
        [f"images/{picture.name}" for picture in job.pictures],
        cloud=cloud.name,
        about=job.about,
    )
    return [path, cloud, *job.pictures]


def _npz(job: Export) -> list[Path]:
    path = job.folder / "predictions.npz"
    about = job.about | {"depth": "z of points_local in the world's unit", "points_local": _LOCAL}
    if any(view.local is None for view in job.scene.views):
        about = job.about | {"depth": "z of points_global in the camera", "left_out": _NO_LOCAL}
    names = [camera.name for camera in job.scene.cameras]
    write_predictions(path, [_arrays(view) for view in job.scene.views], names, about=about)
    return [path]


def _arrays(view: SolvedView) -> dict[str, np.ndarray]:
    """What the NPZ has of a view."""
    arrays = {
        "image": view.loaded.fitted.image,
        "points_global": view.in_world.points,
        "confidence_global": view.in_world.confidence,
        "depth": view.depth,
        "intrinsics": map_intrinsics(view.camera, view.loaded.fitted.placement),
        "world_from_cam": view.camera.world_from_cam,
    }
    if view.local is not None:
        arrays |= {
            "points_aligned": view.local.in_world.points,
            "points_local": view.local.seen.points,
            "confidence_local": view.local.seen.confidence,
            "world_from_local": view.local.world_from_local,
        }
    return arrays


def _depth(job: Export) -> list[Path]:
    return write_depth_maps(
        job.folder / "depth",
        {view.camera.name: view.depth for view in job.scene.views},
        {
            view.camera.name: map_intrinsics(view.camera, view.loaded.fitted.placement)
            for view in job.scene.views
        },
        about=job.about,
    )


def _html(job: Export) -> list[Path]:
    path = job.folder / "scene.html"
    write_page(
        path,
        job.cleaned.cloud,
        job.cleaned.confidence,
        job.scene.cameras,
        title=job.title,
        about=job.about,
    )
    return [path]


def _observations(job: Export) -> Observations:
    """Where each point of the cloud comes from, in full-size pixels."""
    cleaned = job.cleaned
    pixels = np.empty((len(cleaned.cloud), 2))
    error = np.empty(len(cleaned.cloud))
    for index, view in enumerate(job.scene.views):
        mine = np.flatnonzero(cleaned.view == index)
        rows, columns = cleaned.pixel[mine].T
        pixels[mine] = full_pixels(view.loaded.fitted.placement)[rows, columns]
        pose, k = view.camera.world_from_cam, view.camera.intrinsics
        local = (cleaned.cloud.points[mine] - pose[:3, 3]) @ pose[:3, :3]
        with np.errstate(divide="ignore", invalid="ignore"):
            projected = local[:, :2] / local[:, 2:] * k[0, 0] + k[:2, 2]
        off = np.linalg.norm(projected - pixels[mine], axis=1)
        # A point behind its camera has no projection; COLMAP writes -1 for an unknown error.
        error[mine] = np.where(np.isfinite(off) & (local[:, 2] > 0), off, -1.0)
    return Observations(cleaned.view, pixels, error)


WRITERS: Mapping[str, Callable[[Export], list[Path]]] = {
    "ply": _ply,
    "glb": _glb,
    "colmap": _colmap,
    "nerfstudio": _nerfstudio,
    "npz": _npz,
    "depth": _depth,
    "html": _html,
}
