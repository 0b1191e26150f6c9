"""Clouds and cameras as GLB, for viewers of 3D models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float
from trimesh.path import Path3D
from trimesh.path.entities import Line

from distill3r_core.files import replacing
from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.frusta import FRUSTUM_EDGES, frustum, frustum_length
from distill3r_core.io.exports.nerfstudio import OPENGL_FROM_OPENCV

# glTF's world has y up: ours, half a turn about x.
Y_UP_FROM_WORLD = np.diag([1.0, -1.0, -1.0, 1.0])
CAMERA_COLOR = (255, 140, 0, 255)


def write_glb(
    path: Path, cloud: Cloud, cameras: Sequence[Camera], *, about: Mapping[str, str]
) -> None:
    """Write points, a frustum of lines for each camera, and a node with each camera's pose.

    Args:
        cloud: World frame; written with y up.
        cameras: A node's matrix is the camera's pose in glTF's own convention: it looks along its
            -z, y up.
        about: Frame and scale, kept in the scene's extras.
    """
    scene = trimesh.Scene(metadata=dict(about))
    points = cloud.points @ Y_UP_FROM_WORLD[:3, :3].astype(np.float32)
    if len(cloud):
        scene.add_geometry(
            trimesh.PointCloud(points, colors=cloud.colors), node_name="cloud", geom_name="cloud"
        )
    length = frustum_length(cameras, cloud)
    for camera in cameras:
        pose = Y_UP_FROM_WORLD @ camera.world_from_cam
        corners = frustum(camera, length) @ Y_UP_FROM_WORLD[:3, :3]
        scene.add_geometry(
            _lines(corners), node_name=f"frustum {camera.name}", geom_name=f"frustum {camera.name}"
        )
        scene.graph.update(
            frame_to=f"camera {camera.name}",
            frame_from=scene.graph.base_frame,
            matrix=pose @ OPENGL_FROM_OPENCV,
        )
    with replacing(path) as beside, beside.open("wb") as file:
        scene.export(file, file_type="glb")


def _lines(corners: Float[np.ndarray, "5 3"]) -> Path3D:
    strokes = [Line(list(edge)) for edge in FRUSTUM_EDGES]
    return Path3D(strokes, corners, colors=[CAMERA_COLOR] * len(strokes))
