"""Clouds and cameras as GLB, for viewers of 3D models."""

from collections.abc import Mapping, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from trimesh.exchange.gltf import export_glb
from trimesh.path import Path3D
from trimesh.path.entities import Line

from distill3r_core.files import replacing
from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.frusta import FRUSTUM_EDGES, frustum, frustum_length
from distill3r_core.io.exports.nerfstudio import OPENGL_FROM_OPENCV
from distill3r_core.io.images.color import srgb_decoded

# glTF's world has y up: ours, half a turn about x.
Y_UP_FROM_WORLD = np.diag([1.0, -1.0, -1.0, 1.0])
CAMERA_COLOR = (255, 140, 0)  # sRGB
_FLOAT = 5126  # glTF's number of the type: 8 bits of linear color would merge dark colors


def write_glb(
    path: Path, cloud: Cloud, cameras: Sequence[Camera], *, about: Mapping[str, str]
) -> None:
    """Write points, a frustum of lines for each camera, and a node with each camera's pose.

    Args:
        cloud: World frame; written with y up. Its colors become linear, as glTF defines them.
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
    color = [*np.rint(255 * srgb_decoded(np.array(CAMERA_COLOR) / 255.0)).astype(int), 255]
    for camera in cameras:
        pose = Y_UP_FROM_WORLD @ camera.world_from_cam
        corners = frustum(camera, length) @ Y_UP_FROM_WORLD[:3, :3]
        strokes = [Line(list(edge)) for edge in FRUSTUM_EDGES]
        lines = Path3D(strokes, corners, colors=[color] * len(strokes))
        name = f"frustum {camera.name}"
        scene.add_geometry(lines, node_name=name, geom_name=name)
        scene.graph.update(
            frame_to=f"camera {camera.name}",
            frame_from=scene.graph.base_frame,
            matrix=pose @ OPENGL_FROM_OPENCV,
        )
    store_colors = partial(_store_linear_colors, cloud.colors) if len(cloud) else None
    content = export_glb(scene, buffer_postprocessor=store_colors)
    with replacing(path) as beside:
        beside.write_bytes(content)


def _store_linear_colors(
    colors: UInt8[np.ndarray, "M 3"],
    buffers: MutableMapping[Any, bytes],
    tree: Mapping[str, Any],
) -> None:
    """Put linear colors in place of the 8-bit ones that trimesh has stored."""
    mesh = next(mesh for mesh in tree["meshes"] if mesh["name"] == "cloud")
    number = mesh["primitives"][0]["attributes"]["COLOR_0"]
    accessor = list(tree["accessors"].values())[number]
    linear = srgb_decoded(colors / 255.0).astype("<f4")
    buffers[list(buffers)[accessor["bufferView"]]] = linear.tobytes()
    accessor |= {"componentType": _FLOAT, "type": "VEC3", "normalized": False}
    accessor |= {"min": linear.min(0).tolist(), "max": linear.max(0).tolist()}
