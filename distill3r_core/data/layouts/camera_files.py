"""Files of one camera's intrinsics, as people and drivers write them."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from distill3r_core.data.layouts.records import Rig
from distill3r_core.data.matrix_files import read_intrinsics, with_centers_at_half
from distill3r_core.data.table_files import read_table
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.untrusted.yaml_text import read_yaml

_PINHOLES = ("plumb_bob", "rational_polynomial", "none")  # of ROS, their distortion left out
_INSTEAD = "give fx, fy, cx and cy of the images, 0.5 added to both centers of ROS"
# OverflowError: a size of 1e999.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError)
_RECTIFIED = re.compile(r"(^|[\W_])rect(ified)?($|[\W_])", re.IGNORECASE)
_DISTORTION = 1e-3  # coefficients below are those of rectified images, but for rounding


def says_rectified(path: Path) -> bool:
    """Whether a path is named like a topic of rectified images: `image_rect`, `color/rectified`."""
    return any(_RECTIFIED.search(part) for part in path.parts)


def read_camera(path: Path, *, rectified: bool = False) -> tuple[Rig, str | None]:
    """K of a file, with the size of its images where the file has it; and a remark.

    Text has nine numbers, pixel centers at +0.5. JSON is Open3D's `camera_intrinsic.json`, YAML a
    `camera_info` of ROS (of a driver's calibration, or a dumped message), both with pixel centers
    at integers.

    Args:
        path: The file.
        rectified: Whether the images are rectified. Where a `camera_info` has distortion, their K
            is then in its projection matrix.

    Raises:
        ImageError: It is missing or damaged, or no camera's.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_open3d_camera(path), None
    if suffix in (".yaml", ".yml"):
        return _read_camera_info(path, rectified=rectified)
    return Rig(color=read_intrinsics(path)), None


def read_open3d_camera(path: Path) -> Rig:
    """K of Open3D, whose nine numbers are written column by column.

    Raises:
        ImageError: The file is damaged.
    """
    try:
        content = json.loads(read_text_file(path))
        k = _nine(content["intrinsic_matrix"]).T
        size = (int(content["height"]), int(content["width"]))
    except _DAMAGED as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error
    return Rig(with_centers_at_half(k), size)


def read_size_and_pinhole(path: Path, *, distorted: bool = False) -> Rig:
    """K of a line `width height fx fy cx cy`, pixel centers at integers.

    Args:
        distorted: Whether distortion follows on the line.

    Raises:
        ImageError: The file is damaged.
    """
    rows = read_table(path)
    try:
        words = rows[0][1][:6] if distorted else rows[0][1]
        width, height, fx, fy, cx, cy = (float(word) for word in words)
        size = (round(height), round(width))
    except (ValueError, IndexError, OverflowError) as error:
        raise ImageError(f"{path.name} is not width height fx fy cx cy") from error
    return Rig(with_centers_at_half(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])), size)


def _read_camera_info(path: Path, *, rectified: bool) -> tuple[Rig, str | None]:
    try:
        content = read_yaml(_first_document(read_text_file(path)))
        if not isinstance(content, Mapping):
            raise ImageError(f"{path.name} is not a camera_info")
        k = _nine(_first(content, "camera_matrix", "K", "k"))
        size = (
            int(_first(content, "image_height", "height")),
            int(_first(content, "image_width", "width")),
        )
        distortion = _numbers(_first(content, "distortion_coefficients", "D", "d", default=()))
        projection = _numbers(_first(content, "projection_matrix", "P", "p", default=()))
        part = _part_of_sensor(content, size)
        model = str(content.get("distortion_model") or _PINHOLES[0])
    except (yaml.YAMLError, *_DAMAGED) as error:
        raise ImageError(f"{path.name} cannot be read: {reason_of(error)}") from error
    if part is not None:
        raise ImageError(f"{path.name} describes {part}: {_INSTEAD}")
    bent = max(map(abs, distortion), default=0.0) > _DISTORTION
    if bent and rectified and any(projection):
        if len(projection) != 12:
            raise ImageError(
                f"{path.name} has a projection of {counted(len(projection), 'number')}, not 12"
            )
        k = np.array(projection).reshape(3, 4)[:, :3]
        remark = (
            f"its images are rectified by their names: K is that of {path.name}'s projection matrix"
        )
        return Rig(with_centers_at_half(k), size), remark
    if model not in _PINHOLES:
        raise ImageError(
            f"{path.name} is of a camera of the model {model[:40]}, which is no pinhole"
        )
    remark = (
        f"{path.name} has distortion coefficients, and its pinhole camera leaves them out; if the "
        "images are rectified, their K is in its projection_matrix: "
        f"{_INSTEAD}"
    )
    return Rig(with_centers_at_half(k), size), remark if bent else None


def _first_document(text: str) -> str:
    """The first document of a stream of YAML, without what OpenCV and `ros topic echo` add."""
    lines = text.removeprefix("\ufeff").splitlines()
    kept = [line for line in lines if not line.startswith("%")]
    documents: list[list[str]] = [[]]
    for line in kept:
        if line.strip() == "---":
            documents.append([])
        elif line.split("#")[0].strip():
            documents[-1].append(line)
    first = next((document for document in documents if document), [])
    return "\n".join(first).replace("!!opencv-matrix", "")


def _part_of_sensor(content: Mapping[str, Any], size: tuple[int, int]) -> str | None:
    """What a message says of binning and region, which its K leaves out; None: whole images."""
    if max(int(content.get(f"binning_{axis}") or 0) for axis in "xy") > 1:
        return "binned images"
    region = content.get("roi")
    if not isinstance(region, Mapping):
        return None
    sides = tuple(int(region.get(side) or 0) for side in ("height", "width"))
    corner = tuple(int(region.get(side) or 0) for side in ("y_offset", "x_offset"))
    return None if corner == (0, 0) and sides in ((0, 0), size) else "a region of the sensor"


_NEEDED = object()


def _first(content: Mapping[str, Any], *names: str, default: Any = _NEEDED) -> Any:
    """The value of the first name that is there.

    Raises:
        KeyError: None is, and there is no default.
    """
    for name in names:
        if name in content:
            return content[name]
    if default is _NEEDED:
        raise KeyError(names[0])
    return default


def _nine(values: Any) -> Float[np.ndarray, "3 3"]:
    numbers = _numbers(values)
    if len(numbers) != 9:
        raise ValueError(f"K has {counted(len(numbers), 'number')}, not 9")
    return np.array(numbers).reshape(3, 3)


def _numbers(values: Any) -> list[float]:
    """Numbers of a list, or of a matrix as OpenCV's YAML has it, under `data`."""
    listed = values["data"] if isinstance(values, Mapping) else values
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise TypeError("not a list of numbers")
    return [float(value) for value in listed]
