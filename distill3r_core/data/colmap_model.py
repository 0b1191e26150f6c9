"""Cameras and images of a COLMAP model, in text or in binary.

Facts: colmap/colmap `doc/format.rst`, `src/colmap/sensor/models.h`.
"""

import io
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from distill3r_core.data.pose_formats import pose_from_quaternion
from distill3r_core.errors import ImageError
from distill3r_core.files import is_there, open_file, read_file
from distill3r_core.report import counted
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
_OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
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


# An image, and what reads the numbers of the points that it sees.
_Observed = tuple[ColmapImage, Callable[[], Int[np.ndarray, "_"]]]
_Taken = TypeVar("_Taken")


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
    return _read(folder, lambda found: [image for image, _ in found])


def read_observed_images(
    folder: Path, names: Collection[str]
) -> tuple[dict[int, ColmapCamera], list[tuple[ColmapImage, Int[np.ndarray, "_"]]]]:
    """Cameras by their numbers, and the images of these names with the points that each sees.

    Returns:
        The numbers of the points are those of the model; a point that was found in no other image
        has none.

    Raises:
        ImageError: A file is damaged.
    """
    return _read(
        folder, lambda found: [(image, seen()) for image, seen in found if image.name in names]
    )


def _read(
    folder: Path, take: Callable[[Iterator[_Observed]], list[_Taken]]
) -> tuple[dict[int, ColmapCamera], list[_Taken]]:
    """Cameras, and what `take` keeps of the images, which come one after another."""
    binary = is_there(folder / "cameras.bin") and is_there(folder / "images.bin")
    named = set[int]()

    def noted(found: Iterator[_Observed]) -> Iterator[_Observed]:
        for image, seen in found:
            named.add(image.camera)
            yield image, seen

    try:
        if binary:
            cameras = dict(_binary_cameras(_Bytes(read_file(folder / "cameras.bin"))))
            taken = take(noted(_binary_images(_Bytes(read_file(folder / "images.bin")))))
        else:
            cameras = dict(_text_cameras(_lines(folder / "cameras.txt")))
            taken = take(noted(_text_images(_lines(folder / "images.txt"))))
    except (ValueError, struct.error, OSError, OverflowError) as error:
        raise ImageError(f"the model in {folder} is damaged: {reason_of(error)}") from error
    if missing := named - cameras.keys():
        raise ImageError(f"the model in {folder} names cameras that it does not have: {missing}")
    return cameras, taken


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

    def observations(self, count: int) -> Callable[[], Int[np.ndarray, "_"]]:
        """Go past so many observations; gives what reads the numbers of their points."""
        begin, self._at = self._at, self._at + count * _OBSERVATION.itemsize
        if self._at > len(self._content):
            raise ValueError("it ends early")
        return lambda: _known(np.frombuffer(self._content, _OBSERVATION, count, begin)["point"])


def _binary_cameras(data: _Bytes) -> Iterator[tuple[int, ColmapCamera]]:
    (count,) = data.take("<Q")
    for _ in range(int(count)):
        number, model, width, height = (int(value) for value in data.take("<IiQQ"))
        if model not in MODELS:
            raise ValueError(f"camera model {model} is unknown")
        name, params = MODELS[model]
        yield number, ColmapCamera(name, width, height, data.take(f"<{params}d"))


def _binary_images(data: _Bytes) -> Iterator[_Observed]:
    (count,) = data.take("<Q")
    for _ in range(int(count)):
        data.take("<I")
        w, x, y, z, *translation = data.take("<7d")
        (camera,) = data.take("<I")
        name = data.name()
        (points,) = data.take("<Q")
        seen = data.observations(int(points))
        pose = pose_from_quaternion((x, y, z, w), translation)
        yield ColmapImage(name, int(camera), pose), seen


def _text_cameras(lines: Iterable[str]) -> Iterator[tuple[int, ColmapCamera]]:
    counts = dict(MODELS.values())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        number, model, width, height, *params = line.split()
        if counts.get(model) != len(params):
            raise ValueError(
                f"camera model {model} with {counted(len(params), 'parameter')} is unknown"
            )
        yield (
            int(number),
            ColmapCamera(model, int(width), int(height), tuple(float(p) for p in params)),
        )


def _text_images(lines: Iterable[str]) -> Iterator[_Observed]:
    """Two lines an image, of which the second may be empty."""
    rows = (line for line in lines if not line.startswith("#"))
    for line in rows:
        seen = next(rows, "")
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        if len(words) != 10:
            raise ValueError(f"not an image's line: {line[:60]!r}")
        w, x, y, z, *translation = (float(word) for word in words[1:8])
        image = ColmapImage(
            words[9].rstrip("\n"),
            int(words[8]),
            pose_from_quaternion((x, y, z, w), translation),
        )
        yield image, partial(_points_of_line, seen)


def _points_of_line(line: str) -> Int[np.ndarray, "_"]:
    """From `X Y POINT3D_ID` of each observation."""
    return _known(np.array(line.split()[2::3], np.int64))


def _known(points: Int[np.ndarray, "_"]) -> Int[np.ndarray, "_"]:
    return points[points >= 0]  # -1: no point


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text one after another: those of observations are hundreds of megabytes."""
    with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
        for line in file:
            yield line.removesuffix("\n")
