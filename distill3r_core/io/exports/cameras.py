"""Cameras of a reconstruction, and the file that lists them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import FailedError, InputMissingError
from distill3r_core.files import read_text_file, write_text
from distill3r_core.geometry.pose_vectors import quaternion_from_rotation

FRAME = "OpenCV axes (x right, y down, z forward) of the first view's camera"
_POSE, _QUATERNION = "world_from_cam", "quaternion"
_LONGEST_REASON = 200  # characters of an error that may quote the file
_LARGEST_SIDE = 1 << 20  # pixels
_KEYS = ("name", "size", "intrinsics", _POSE, _QUATERNION)


@dataclass(frozen=True)
class Pinhole:
    """A pinhole camera without distortion, of one upright full-size image, wherever it stood.

    Args:
        facts: More to say of it in files: where the focal length comes from, confidence.
    """

    name: str  # name of the view; unique in a reconstruction, fit for a file's name
    size: tuple[int, int]  # rows and columns of the image
    intrinsics: Float[np.ndarray, "3 3"]  # in its pixels, centers at +0.5
    facts: Mapping[str, Any]

    def at(self, world_from_cam: Float[np.ndarray, "4 4"]) -> "Camera":
        """The same at a place."""
        return Camera(self.name, self.size, self.intrinsics, self.facts, world_from_cam)


@dataclass(frozen=True)
class Camera(Pinhole):
    """A pinhole camera whose pose is known."""

    world_from_cam: Float[np.ndarray, "4 4"]  # pose; OpenCV axes


def write_cameras(path: Path, cameras: Sequence[Pinhole], *, about: Mapping[str, Any]) -> None:
    """Write cameras as JSON.

    Args:
        cameras: In the order of the views. A pose is written where it is known.
        about: Put before them: frame, unit, where the scale comes from.
    """
    facts = {
        **about,
        "size": "rows, columns",
        "intrinsics": "pixels of the upright full-size picture, centers at +0.5",
    }
    if any(isinstance(camera, Camera) for camera in cameras):
        facts[_POSE] = "4x4, camera to world; axes as in ROS's optical frames"
        facts[_QUATERNION] = "rotation of world_from_cam, x y z w (ROS's order)"
    listed = []
    for camera in cameras:
        plain: dict[str, Any] = {
            "name": camera.name,
            "size": list(camera.size),
            "intrinsics": camera.intrinsics.tolist(),
        }
        if isinstance(camera, Camera):
            plain[_POSE] = camera.world_from_cam.tolist()
            plain[_QUATERNION] = list(quaternion_of(camera))
        listed.append({**plain, **camera.facts})
    text = json.dumps({"about": facts, "cameras": listed}, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


def quaternion_of(camera: Camera) -> tuple[float, float, float, float]:
    """The rotation of a pose as a unit quaternion x, y, z, w with w >= 0."""
    rotation = torch.from_numpy(camera.world_from_cam[:3, :3].astype(np.float64))
    x, y, z, w = quaternion_from_rotation(rotation).tolist()
    return x, y, z, w


def read_cameras(path: Path) -> tuple[list[Camera], dict[str, Any]]:
    """The cameras of a file and what is said about them all.

    Raises:
        InputMissingError: The file is of views whose poses are not known.
        FailedError: The file is not one that `write_cameras` wrote.
    """
    try:
        data = json.loads(read_text_file(path))
        if not isinstance(data["about"], dict):
            raise ValueError("what is said of all cameras is no object")
        if "poses" in data["about"] and not any(_POSE in entry for entry in data["cameras"]):
            raise InputMissingError(
                f"{path} has no poses: {str(data['about']['poses'])[:_LONGEST_REASON]}",
                hint="distill3r infer INPUT, without --head local, finds them",
            )
        cameras = [
            Camera(
                name=_text(entry["name"]),
                size=(int(entry["size"][0]), int(entry["size"][1])),
                intrinsics=np.array(entry["intrinsics"], np.float64),
                world_from_cam=np.array(entry[_POSE], np.float64),
                facts={key: value for key, value in entry.items() if key not in _KEYS},
            )
            for entry in data["cameras"]
        ]
        about = data["about"]
        if not cameras or not all(_is_sound(camera) for camera in cameras):
            raise ValueError("no cameras, or one that is none")
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        reason = repr(error)[:_LONGEST_REASON]
        raise FailedError(f"cannot read cameras from {path}: {reason}") from error
    return cameras, about


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a camera without a name")
    return value


def _is_sound(camera: Camera) -> bool:
    """Whether there is an image, a focal length, and a rotation with a place."""
    k, pose = camera.intrinsics, camera.world_from_cam
    if (
        min(camera.size) < 1
        or max(camera.size) > _LARGEST_SIDE
        or k.shape != (3, 3)
        or pose.shape != (4, 4)
    ):
        return False
    turn = pose[:3, :3]
    near = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0
    return bool(np.isfinite(k).all() and np.isfinite(pose).all() and k[0, 0] > 0 < k[1, 1] and near)
