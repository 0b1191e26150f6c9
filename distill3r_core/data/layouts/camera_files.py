"""Files of one camera's intrinsics, as people and drivers write them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from distill3r_core.data.layouts.records import Rig
from distill3r_core.data.matrix_files import checked_intrinsics, read_intrinsics
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of
from distill3r_core.untrusted.yaml_text import read_yaml

# OverflowError: a size of 1e999.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError)
_DISTORTION = 1e-3  # coefficients below move no pixel of a photograph by half a pixel


def read_camera(path: Path) -> tuple[Rig, str | None]:
    """K of a file, with the size of its images where the file has it; and a remark.

    Text has nine numbers, pixel centers at +0.5. JSON is Open3D's `camera_intrinsic.json`, YAML a
    `camera_info` of ROS (of a driver's calibration, or a dumped message), both with pixel centers
    at integers.

    Raises:
        ImageError: It is missing or damaged, or no camera's.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_open3d_camera(path), None
    if suffix in (".yaml", ".yml"):
        return _read_camera_info(path)
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
    return Rig(_with_center(k), size)


def _read_camera_info(path: Path) -> tuple[Rig, str | None]:
    try:
        content = read_yaml(read_text_file(path))
        if not isinstance(content, Mapping):
            raise ImageError(f"{path.name} is no camera_info: it has no names")
        k = _nine(_first(content, "camera_matrix", "K", "k"))
        size = (
            int(_first(content, "image_height", "height")),
            int(_first(content, "image_width", "width")),
        )
        distortion = _numbers(_first(content, "distortion_coefficients", "D", "d", default=()))
    except (yaml.YAMLError, *_DAMAGED) as error:
        raise ImageError(f"{path.name} cannot be read: {reason_of(error)}") from error
    bent = max(map(abs, distortion), default=0.0) > _DISTORTION
    remark = (
        f"{path.name} has distortion coefficients, which its pinhole leaves out; images that were "
        "rectified have the K of its projection_matrix: give these four numbers"
    )
    return Rig(_with_center(k), size), remark if bent else None


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
        raise ValueError(f"K has {len(numbers)} numbers, not 9")
    return np.array(numbers).reshape(3, 3)


def _numbers(values: Any) -> list[float]:
    """Numbers of a list, or of a matrix as OpenCV's YAML has it, under `data`."""
    listed = values["data"] if isinstance(values, Mapping) else values
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise TypeError("not a list of numbers")
    return [float(value) for value in listed]


def _with_center(k: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """K with pixel centers at +0.5, of one with centers at integers."""
    moved = k.copy()
    moved[:2, 2] += 0.5
    return checked_intrinsics(moved)
