"""Colored point clouds as PLY files. The one module that imports plyfile, which is GPL."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from plyfile import PlyData, PlyElement, PlyParseError

from distill3r_core.errors import FailedError
from distill3r_core.files import open_file, replacing, shown_name
from distill3r_core.io.exports.cloud import Cloud

_LONGEST_HEAD = 1 << 16  # bytes
_LONGEST_REASON = 200  # characters of an error that may quote the file
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
        _check_counts(path)
        data = PlyData.read(str(path))
        vertices = data["vertex"]
        points = np.stack([vertices[name] for name in "xyz"], axis=1)
        colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1)
    except (PlyParseError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        reason = str(error)[:_LONGEST_REASON]
        raise FailedError(f"cannot read {path} as a colored point cloud: {reason}") from error
    return Cloud(points.astype(np.float32), colors.astype(np.uint8)), list(data.comments)


def _check_counts(path: Path) -> None:
    """Refuse a header that claims more elements than the file has bytes.

    Raises:
        ValueError: It does.
    """
    with open_file(path) as file:
        head = file.read(_LONGEST_HEAD).partition(b"end_header")[0]
    for count in re.findall(rb"^\s*element\s+\S+\s+(\S+)", head, re.MULTILINE):
        if not 0 <= int(count) <= path.stat().st_size:
            raise ValueError(
                f"it cannot hold {shown_name(count.decode(errors='replace'))} elements"
            )


def read_ply_surface(
    path: Path,
) -> tuple[Float[np.ndarray, "M 3"], Int[np.ndarray, "F 3"] | None]:
    """The vertices of a mesh or cloud, and the triangles where it has any.

    Raises:
        FailedError: The file is not a PLY with vertices, or a face of it is no triangle.
    """
    try:
        _check_counts(path)
        data = PlyData.read(str(path))
        vertices = data["vertex"]
        points = np.stack([vertices[name] for name in "xyz"], axis=1).astype(np.float64)
        if "face" not in data or not len(data["face"]):
            return points, None
        names = [one.name for one in data["face"].properties]
        corners = data["face"]["vertex_indices" if "vertex_indices" in names else "vertex_index"]
        return points, np.stack(list(corners)).astype(np.int64).reshape(-1, 3)
    except (PlyParseError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise FailedError(
            f"cannot read {path} as a surface: {str(error)[:_LONGEST_REASON]}"
        ) from error
