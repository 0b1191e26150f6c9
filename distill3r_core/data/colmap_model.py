"""Cameras and images of a COLMAP model, in text or in binary.

Facts: colmap/colmap `doc/format.rst`, `src/colmap/sensor/models.h`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.pose_formats import pose_from_quaternion
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, read_file, read_text_file
from distill3r_core.untrusted.printable import reason_of

# Name and number of parameters by COLMAP's number of the model.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
_ONE_FOCAL = frozenset({"SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"})
_TWO_FOCALS = frozenset({"PINHOLE", "OPENCV", "FULL_OPENCV"})
_POINT_BYTES = 24  # of an observation: x, y and the point's number
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class ColmapCamera:
    """A camera: its model by name, its size in pixels and its parameters."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]

    @property
    def is_fisheye(self) -> bool:
        """Whether its images are no pinhole's."""
        return "FISHEYE" in self.model or self.model in ("FOV", "EUCM", "EQUIRECTANGULAR")

    @property
    def distortion(self) -> tuple[float, ...]:
        """Parameters behind those of the pinhole."""
        return self.params[3 if self.model in _ONE_FOCAL else 4 :]

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"] | None:
        """K of the pinhole part, pixel centers at +0.5; None: the model has none."""
        if self.model in _ONE_FOCAL:
            f, cx, cy = self.params[:3]
            return np.array([[f, 0, cx], [0, f, cy], [0, 0, 1.0]])
        if self.model in _TWO_FOCALS:
            fx, fy, cx, cy = self.params[:4]
            return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        return None


@dataclass(frozen=True, eq=False)
class ColmapImage:
    """An image that the model has registered."""

    name: str
    camera: int
    cam_from_world: Float[np.ndarray, "4 4"]


def has_model(folder: Path) -> bool:
    """Whether a folder holds a model, in binary or in text."""
    return any(
        is_there(folder / f"cameras{end}") and is_there(folder / f"images{end}")
        for end in (".bin", ".txt")
    )


def read_model(folder: Path) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Cameras by their numbers, and images. Binary files win, as in COLMAP.

    Raises:
        ImageError: A file is damaged.
    """
    binary = is_there(folder / "cameras.bin") and is_there(folder / "images.bin")
    try:
        if binary:
            cameras = dict(_binary_cameras(_Bytes(read_file(folder / "cameras.bin"))))
            images = list(_binary_images(_Bytes(read_file(folder / "images.bin"))))
        else:
            cameras = dict(_text_cameras(_lines(folder / "cameras.txt")))
            images = list(_text_images(_lines(folder / "images.txt")))
    except (ValueError, struct.error, OSError, OverflowError) as error:
        raise ImageError(f"the model in {folder} is damaged: {reason_of(error)}") from error
    missing = {image.camera for image in images} - cameras.keys()
    if missing:
        raise ImageError(f"the model in {folder} names cameras that it does not have: {missing}")
    return cameras, images


class _Bytes:
    """Numbers from a file's bytes, one after another."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def take(self, form: str) -> tuple[int | float, ...]:
        size = struct.calcsize(form)
        numbers = struct.unpack_from(form, self._content, self._at)
        self._at += size
        return numbers

    def name(self) -> str:
        end = self._content.index(b"\0", self._at, self._at + _LONGEST_NAME)
        name = self._content[self._at : end].decode("utf-8")
        self._at = end + 1
        return name

    def skip(self, size: int) -> None:
        self._at += size
        if self._at > len(self._content):
            raise ValueError("it ends early")


def _binary_cameras(data: _Bytes) -> Iterator[tuple[int, ColmapCamera]]:
    (count,) = data.take("<Q")
    for _ in range(int(count)):
        number, model, width, height = (int(value) for value in data.take("<IiQQ"))
        if model not in MODELS:
            raise ValueError(f"camera model {model} is unknown")
        name, params = MODELS[model]
        yield number, ColmapCamera(name, width, height, data.take(f"<{params}d"))


def _binary_images(data: _Bytes) -> Iterator[ColmapImage]:
    (count,) = data.take("<Q")
    for _ in range(int(count)):
        data.take("<I")
        w, x, y, z, *translation = data.take("<7d")
        (camera,) = data.take("<I")
        name = data.name()
        (points,) = data.take("<Q")
        data.skip(int(points) * _POINT_BYTES)
        yield ColmapImage(name, int(camera), pose_from_quaternion((x, y, z, w), translation))


def _text_cameras(lines: list[str]) -> Iterator[tuple[int, ColmapCamera]]:
    counts = dict(MODELS.values())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        number, model, width, height, *params = line.split()
        if counts.get(model) != len(params):
            raise ValueError(f"camera model {model} with {len(params)} parameters is unknown")
        yield (
            int(number),
            ColmapCamera(model, int(width), int(height), tuple(float(p) for p in params)),
        )


def _text_images(lines: list[str]) -> Iterator[ColmapImage]:
    """Two lines an image, of which the second may be empty."""
    rows = [line for line in lines if not line.startswith("#")]
    for line in rows[::2]:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise ValueError(f"not an image's line: {line[:60]!r}")
        w, x, y, z, *translation = (float(word) for word in words[1:8])
        yield ColmapImage(
            words[9].rstrip("\n"),
            int(words[8]),
            pose_from_quaternion((x, y, z, w), translation),
        )


def _lines(path: Path) -> list[str]:
    return read_text_file(path).split("\n")
