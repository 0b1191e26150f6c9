"""The built-in formats: what each file of them is made of."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.io.exports.colmap import write_colmap
from distill3r_core.io.exports.glb import write_glb
from distill3r_core.io.exports.html_page import PagePart, write_page
from distill3r_core.io.exports.nerfstudio import write_transforms
from distill3r_core.io.exports.ply import write_ply
from distill3r_core.io.exports.trajectory import write_tum
from distill3r_core.io.exports.view_arrays import write_depth_maps, write_predictions
from distill3r_core.reconstruction.cameras.placements import map_intrinsics
from distill3r_core.reconstruction.export import Export
from distill3r_core.reconstruction.local_views import LocalView, LocalViews
from distill3r_core.reconstruction.point_cloud import observations
from distill3r_core.reconstruction.reconstruction import PosedView
from distill3r_core.reconstruction.view_maps import Map

_LOCAL = "in the view's own frame and the model's own unit; world = world_from_local @ [x, y, z, 1]"
_NO_LOCAL = (
    "points_local, confidence_local, points_aligned, world_from_local: the local head was not run"
)
_NO_GLOBAL = (
    "points_global, confidence_global, points_aligned, world_from_cam, world_from_local: "
    "the global head was not run"
)


def save_ply(export: Export) -> list[Path]:
    """Write the cloud as `scene.ply`."""
    _, cleaned = export.world
    path = export.folder / "scene.ply"
    write_ply(path, cleaned.cloud, comments=export.comments)
    return [path]


def save_glb(export: Export) -> list[Path]:
    """Write cloud and cameras as `scene.glb`."""
    scene, cleaned = export.world
    path = export.folder / "scene.glb"
    about = scene.about | {"frame": f"y up: half a turn about x from {scene.about['frame']}"}
    write_glb(path, cleaned.cloud, scene.cameras, about=about)
    return [path]


def save_colmap(export: Export) -> list[Path]:
    """Write a COLMAP model to `sparse/0`, and the images."""
    scene, cleaned = export.world
    files = write_colmap(
        export.folder / "sparse" / "0",
        scene.cameras,
        [path.name for path in export.images],
        cleaned.cloud,
        observations(scene, cleaned),
        comments=export.comments,
    )
    return [*files, *export.images]


def save_nerfstudio(export: Export) -> list[Path]:
    """Write `transforms.json`, the cloud it refers to, and the images."""
    scene, _ = export.world
    path = export.folder / "transforms.json"
    (cloud,) = save_ply(export)
    write_transforms(
        path,
        scene.cameras,
        [f"images/{image.name}" for image in export.images],
        cloud=cloud.name,
        about=scene.about,
    )
    return [path, cloud, *export.images]


def save_npz(export: Export) -> list[Path]:
    """Write all maps and cameras as `predictions.npz`."""
    scene = export.scene
    path = export.folder / "predictions.npz"
    about = scene.about | {"depth": "z of points_local in the world's unit", "points_local": _LOCAL}
    valid = {"valid_mask": "pixels with a finite point that the image's mask leaves"}
    if isinstance(scene, LocalViews):
        about = scene.about | {"depth": "z of points_local", "left_out": _NO_GLOBAL}
    elif any(view.aligned is None for view in scene.views):
        about |= {"depth": "z of points_global in the camera", "left_out": _NO_LOCAL}
    arrays = [
        {"image": view.loaded.fitted.image, **_maps_of(view), "depth": view.depth}
        | {"valid_mask": view.valid_mask}
        | {"intrinsics": map_intrinsics(view.camera, view.loaded.fitted.placement)}
        for view in scene.views
    ]
    names = [view.camera.name for view in scene.views]
    write_predictions(path, arrays, names, about=about | valid)
    return [path]


def _maps_of(view: PosedView | LocalView) -> dict[str, np.ndarray]:
    """The maps of a view and where they lie, by the names that the NPZ gives them."""
    if isinstance(view, LocalView):
        return _named(view.local_map, "local")
    arrays = _named(view.global_map, "global") | {"world_from_cam": view.camera.world_from_cam}
    if view.aligned is not None:
        arrays |= _named(view.aligned.local_map, "local")
        arrays |= {
            "points_aligned": view.aligned.world_map.points,
            "world_from_local": view.aligned.world_from_local,
        }
    return arrays


def _named(points: Map, name: str) -> dict[str, np.ndarray]:
    return {f"points_{name}": points.points, f"confidence_{name}": points.confidence}


def save_depth(export: Export) -> list[Path]:
    """Write the depth map of every view to `depth/`."""
    scene = export.scene
    intrinsics: dict[str, Float[np.ndarray, "3 3"]] = {
        view.camera.name: map_intrinsics(view.camera, view.loaded.fitted.placement)
        for view in scene.views
    }
    depths = {
        view.camera.name: np.where(view.valid_mask, view.depth, 0.0).astype(np.float32)
        for view in scene.views
    }
    return write_depth_maps(export.folder / "depth", depths, intrinsics, about=scene.about)


def save_tum(export: Export) -> list[Path]:
    """Write the poses as `trajectory.txt`."""
    scene, _ = export.world
    path = export.folder / "trajectory.txt"
    write_tum(path, scene.cameras, comments=export.comments)
    return [path]


def save_html(export: Export) -> list[Path]:
    """Write a page that shows cloud and cameras as `scene.html`."""
    scene, cleaned = export.world
    path = export.folder / "scene.html"
    write_page(
        path,
        [PagePart(export.title, cleaned.cloud, cleaned.confidence, scene.cameras)],
        title=export.title,
        about=scene.about,
    )
    return [path]
