"""Poses as data sets write them: quaternions, rotation vectors, rows of a matrix."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ImageError

_SAME = 1e-9


def pose_from_quaternion(
    xyzw: Sequence[float], translation: Sequence[float]
) -> Float[np.ndarray, "4 4"]:
    """The rigid motion of a quaternion, its real part last, and a translation.

    Raises:
        ImageError: A number is not finite, or the quaternion is 0.
    """
    x, y, z, w = _finite(xyzw, 4)
    length = math.sqrt(x * x + y * y + z * z + w * w)
    if length < _SAME:
        raise ImageError("its quaternion is 0")
    x, y, z, w = x / length, y / length, z / length, w / length
    pose = np.eye(4)
    pose[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    pose[:3, 3] = _finite(translation, 3)
    return pose


def pose_from_rotation_vector(
    vector: Sequence[float], translation: Sequence[float]
) -> Float[np.ndarray, "4 4"]:
    """The rigid motion of an axis times an angle in radians, and a translation.

    Raises:
        ImageError: A number is not finite.
    """
    x, y, z = _finite(vector, 3)
    angle = math.sqrt(x * x + y * y + z * z)
    half = math.sin(angle / 2) / angle if angle > _SAME else 0.5
    return pose_from_quaternion((half * x, half * y, half * z, math.cos(angle / 2)), translation)


def _finite(numbers: Sequence[float], count: int) -> list[float]:
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise ImageError("its pose has numbers that are missing or not finite")
    return list(numbers)
