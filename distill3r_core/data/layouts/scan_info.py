"""Cameras of a scan by `info.txt` of 12-Scenes or `_info.txt` of ScanNet's exporter."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts.records import Rig
from distill3r_core.data.matrix_files import with_centers_at_half
from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.untrusted.printable import reason_of


@dataclass(frozen=True, eq=False)
class ScanInfo:
    """What the file says of a scan.

    Args:
        rig: K of the color camera, and the size that it belongs to.
        depth_scale: Stored depth units in a meter; None where the file does not say.
        depth_extrinsic: The matrix that it calls the depth camera's extrinsics; None where there
            is none.
    """

    rig: Rig
    depth_scale: float | None = None
    depth_extrinsic: Float[np.ndarray, "4 4"] | None = None


def read_color_rig(path: Path) -> Rig:
    """The color camera alone, whatever else the file says.

    Raises:
        ImageError: What the file says of it is missing or damaged.
    """
    values = _values(path)
    with _naming(path):
        return _color_rig(values)


def read_scan_info(path: Path) -> ScanInfo:
    """Read a file of lines `key = numbers`, by the keys and not by the lines.

    Raises:
        ImageError: The file is damaged.
    """
    values = _values(path)
    with _naming(path):
        shift, extrinsic = (
            values.get(f"m_{n}") for n in ("depthShift", "calibrationDepthExtrinsic")
        )
        scale = None if shift is None else float(shift[0])
        if scale is not None and not 0 < scale < np.inf:
            raise ValueError(f"m_depthShift is {scale:g}")
        extrinsic = None if extrinsic is None else _matrix(extrinsic)
        return ScanInfo(_color_rig(values), scale, extrinsic)


def _values(path: Path) -> dict[str, list[str]]:
    """The words of each line by its key."""
    with _naming(path):
        pairs = (line.partition("=") for line in read_text_file(path).splitlines())
        return {key.strip(): value.split() for key, _, value in pairs}


def _color_rig(values: Mapping[str, list[str]]) -> Rig:
    size = (int(values["m_colorHeight"][0]), int(values["m_colorWidth"][0]))
    color = _matrix(values["m_calibrationColorIntrinsic"])
    return Rig(color=with_centers_at_half(color[:3, :3]), size=size)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raises: ImageError: Something in the file is not what it should be."""
    try:
        yield
    except (OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ImageError(f"{path.name} is damaged: {reason_of(error)}") from error


def _matrix(words: list[str]) -> Float[np.ndarray, "4 4"]:
    return np.array([float(word) for word in words]).reshape(4, 4)
