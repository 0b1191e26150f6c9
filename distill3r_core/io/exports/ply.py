"""Colored point clouds as PLY files. The one module that imports plyfile, which is GPL."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plyfile import PlyData, PlyElement, PlyParseError

from distill3r_core.errors import FailedError
from distill3r_core.files import replacing
from distill3r_core.io.exports.cloud import Cloud

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
)


def write_ply(path: Path, cloud: Cloud, *, comments: Sequence[str] = ()) -> None:
    """Write a cloud as binary little-endian PLY, whole or not at all.

    Args:
        cloud: Written as float32 `x y z` and uint8 `red green blue`.
        comments: Lines for the header: frame, scale, where the points come from. Letters that
            the format has no room for (it is ASCII) are escaped.
    """
    header = [line.encode("ascii", "backslashreplace").decode() for line in comments]
    vertices = np.empty(len(cloud), _VERTEX)
    for axis, name in enumerate("xyz"):
        vertices[name] = cloud.points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = cloud.colors[:, channel]
    element = PlyElement.describe(vertices, "vertex")
    with replacing(path) as beside:
        PlyData([element], byte_order="<", comments=header).write(str(beside))


def read_ply(path: Path) -> tuple[Cloud, list[str]]:
    """A colored cloud and the comments of its header.

    Raises:
        FailedError: The file is not a PLY with colored vertices.
    """
    try:
        data = PlyData.read(str(path))
        vertices = data["vertex"]
        points = np.stack([vertices[name] for name in "xyz"], axis=1)
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
    except (PlyParseError, KeyError, ValueError) as error:
        raise FailedError(f"cannot read {path} as a colored point cloud: {error}") from error
    return Cloud(points.astype(np.float32), colors.astype(np.uint8)), list(data.comments)
