"""COLMAP models, as text and as binary: cameras, images and points with what they are seen as.

Written from the format's documentation (https://colmap.github.io/format.html). The world frame is
kept as it is; COLMAP's poses are `cam_from_world`, its pixel centers lie at +0.5 as ours do.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from distill3r_core.files import replacing
from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud

_PINHOLE = 1  # COLMAP's number of the model
_POINT_2D = np.dtype([("u", "<f8"), ("v", "<f8"), ("point", "<i8")])
_POINT_3D = np.dtype(
    [
        ("id", "<u8"),
        ("xyz", "<f8", 3),
        ("rgb", "u1", 3),
        ("error", "<f8"),
        ("length", "<u8"),
        ("image", "<i4"),
        ("index", "<i4"),
    ]
)


@dataclass(frozen=True)
class Observations:
    """Where each point of a cloud was seen, once each."""

    view: Int[np.ndarray, "M"]  # index of the camera
    pixels: Float[np.ndarray, "M 2"]  # in its full-size image (u, v)
    error: Float[np.ndarray, "M"]  # distance in pixels from there to the point's projection


def write_colmap(
    folder: Path,
    cameras: Sequence[Camera],
    files: Sequence[str],
    cloud: Cloud,
    seen: Observations,
    *,
    comments: Sequence[str] = (),
) -> list[Path]:
    """Write `cameras`, `images` and `points3D`, each as `.txt` and `.bin`.

    Args:
        folder: `sparse/0` by custom.
        cameras: One per image, in order; numbered from 1.
        files: Names of the images, relative to the folder of images.
        cloud: Numbered from 1 in its order.
        comments: Lines at the head of the text files.
    """
    # Points of one image stand together, in the order of the cloud.
    order = np.argsort(seen.view, kind="stable")
    starts = np.searchsorted(seen.view[order], np.arange(len(cameras) + 1))
    members = [order[starts[i] : starts[i + 1]] for i in range(len(cameras))]
    index_in_view = np.empty(len(order), np.int64)
    for member in members:
        index_in_view[member] = np.arange(len(member))
    head = "".join(f"# {line}\n" for line in comments)
    written = {
        "cameras.txt": [(head + _cameras_text(cameras)).encode()],
        "cameras.bin": [_cameras_binary(cameras)],
        "images.txt": _images_text(head, cameras, files, seen, members),
        "images.bin": _images_binary(cameras, files, seen, members),
        "points3D.txt": _points_text(head, cloud, seen, index_in_view),
        "points3D.bin": [_points_binary(cloud, seen, index_in_view)],
    }
    for name, parts in written.items():
        with replacing(folder / name) as beside, beside.open("wb") as file:
            for part in parts:
                file.write(part)
    return [folder / name for name in written]


def _pinhole(camera: Camera) -> list[float]:
    k = camera.intrinsics
    return [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])]


def _cam_from_world(camera: Camera) -> tuple[list[float], list[float]]:
    """Unit quaternion (w, x, y, z) and translation."""
    rotation = camera.world_from_cam[:3, :3].T
    translation = -rotation @ camera.world_from_cam[:3, 3]
    quaternion = Rotation.from_matrix(rotation).as_quat(canonical=True, scalar_first=True)
    return [float(value) for value in quaternion], [float(value) for value in translation]


def _cameras_text(cameras: Sequence[Camera]) -> str:
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, camera in enumerate(cameras, start=1):
        height, width = camera.size
        lines.append(f"{number} PINHOLE {width} {height} {_joined(_pinhole(camera))}")
    return "\n".join(lines) + "\n"


def _cameras_binary(cameras: Sequence[Camera]) -> bytes:
    parts = [struct.pack("<Q", len(cameras))]
    for number, camera in enumerate(cameras, start=1):
        height, width = camera.size
        parts.append(struct.pack("<iiQQ4d", number, _PINHOLE, width, height, *_pinhole(camera)))
    return b"".join(parts)


def _images_text(
    head: str,
    cameras: Sequence[Camera],
    files: Sequence[str],
    seen: Observations,
    members: Sequence[Int[np.ndarray, "_"]],
) -> Iterable[bytes]:
    yield head.encode()
    yield b"# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"
    yield b"# POINTS2D[] as (X, Y, POINT3D_ID)\n"
    for number, (camera, name, member) in enumerate(zip(cameras, files, members, strict=True), 1):
        quaternion, translation = _cam_from_world(camera)
        pose = _joined([*quaternion, *translation])
        pixels = seen.pixels[member]
        points = " ".join(
            f"{u:.9g} {v:.9g} {point + 1}"
            for (u, v), point in zip(pixels.tolist(), member.tolist(), strict=True)
        )
        yield f"{number} {pose} {number} {name}\n{points}\n".encode()


def _images_binary(
    cameras: Sequence[Camera],
    files: Sequence[str],
    seen: Observations,
    members: Sequence[Int[np.ndarray, "_"]],
) -> Iterable[bytes]:
    yield struct.pack("<Q", len(cameras))
    for number, (camera, name, member) in enumerate(zip(cameras, files, members, strict=True), 1):
        quaternion, translation = _cam_from_world(camera)
        yield struct.pack("<i7di", number, *quaternion, *translation, number)
        yield name.encode() + b"\0"
        points = np.empty(len(member), _POINT_2D)
        points["u"], points["v"] = seen.pixels[member].T
        points["point"] = member + 1
        yield struct.pack("<Q", len(member))
        yield points.tobytes()


def _points_text(
    head: str, cloud: Cloud, seen: Observations, index_in_view: Int[np.ndarray, "M"]
) -> Iterable[bytes]:
    yield head.encode()
    yield b"# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
    rows = zip(
        cloud.points.tolist(),
        cloud.colors.tolist(),
        seen.error.tolist(),
        (seen.view + 1).tolist(),
        index_in_view.tolist(),
        strict=True,
    )
    for number, ((x, y, z), (red, green, blue), error, image, index) in enumerate(rows, 1):
        yield (
            f"{number} {x:.9g} {y:.9g} {z:.9g} {red} {green} {blue} {error:.6g} {image} {index}\n"
        ).encode()


def _points_binary(cloud: Cloud, seen: Observations, index_in_view: Int[np.ndarray, "M"]) -> bytes:
    points = np.empty(len(cloud), _POINT_3D)
    points["id"] = np.arange(1, len(cloud) + 1)
    points["xyz"], points["rgb"] = cloud.points, cloud.colors
    points["error"], points["length"] = seen.error, 1
    points["image"], points["index"] = seen.view + 1, index_in_view
    return struct.pack("<Q", len(cloud)) + points.tobytes()


def _joined(values: Iterable[float]) -> str:
    return " ".join(repr(value) for value in values)
