"""The `transforms.json` of nerfstudio and its relatives."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core.files import write_text
from distill3r_core.io.exports.cameras import Camera

# Cameras there look along -z with y up (OpenGL); the world stays as it is.
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def write_transforms(
    path: Path,
    cameras: Sequence[Camera],
    files: Sequence[str],
    *,
    cloud: str,
    about: Mapping[str, Any],
) -> None:
    """Write cameras as nerfstudio's data parser reads them.

    Args:
        cameras: One per image, in order.
        files: Paths of the images, relative to the file's folder.
        cloud: Path of a PLY in the same world frame, relative to the file's folder.
        about: Frame and scale, kept under a key that readers ignore.
    """
    frames = []
    for camera, file in zip(cameras, files, strict=True):
        height, width = camera.size
        k = camera.intrinsics
        frames.append(
            {
                "file_path": file,
                "w": width,
                "h": height,
                "fl_x": float(k[0, 0]),
                "fl_y": float(k[1, 1]),
                "cx": float(k[0, 2]),
                "cy": float(k[1, 2]),
                "transform_matrix": (camera.world_from_cam @ OPENGL_FROM_OPENCV).tolist(),
            }
        )
    content = {
        "camera_model": "OPENCV",
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "ply_file_path": cloud,
        "about": {**about, "cameras": "OpenGL axes: x right, y up, z backward; camera to world"},
        "frames": frames,
    }
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
