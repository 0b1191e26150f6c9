"""Matrices in text files: poses and intrinsics, read and checked."""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ImageError
from distill3r_core.files import read_text_file
from distill3r_core.report import counted
from distill3r_core.untrusted.printable import reason_of

# How far from a rotation a stored one may be: sensors' files are off by 1e-3.
ROTATION_TOLERANCE = 1e-2
_FARTHEST = 1e9  # in the unit of a pose: beyond map coordinates in millimeters
_LARGEST_INTRINSIC = 1e7  # pixels
_NOT_FINITE = "numbers that are not finite"


def read_matrix(path: Path, side: int, *, what: str) -> Float[np.ndarray, "n n"]:
    """Read a square matrix from a text file, its numbers separated by any white space.

    Raises:
        ImageError: Missing, or not so many finite numbers.
    """
    try:
        words = read_text_file(path).split()
    except FileNotFoundError as error:
        raise ImageError(f"{what} is missing: no {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"{what} cannot be read: {reason_of(error)}") from error
    if len(words) != side * side:
        raise ImageError(f"{what} has {counted(len(words), 'number')}, not {side * side}")
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]  # Windows wrote -1.#INF, which is no number anywhere else
    if not all(math.isfinite(number) for number in numbers):
        raise ImageError(f"{what} has {_NOT_FINITE}")
    return np.array(numbers).reshape(side, side)


def read_intrinsics(path: Path) -> Float[np.ndarray, "3 3"]:
    """Read K from a text file of nine numbers.

    Raises:
        ImageError: Missing, not nine finite numbers, or not the K of a camera.
    """
    return checked_intrinsics(read_matrix(path, 3, what="K"))


def checked_intrinsics(intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The same K, if it is the K of a camera.

    Raises:
        ImageError: It has numbers that are not finite or too large, no positive focal lengths, or
            another last row.
    """
    if not (np.abs(intrinsics) <= _LARGEST_INTRINSIC).all():  # NaN compares false
        raise ImageError("intrinsics have numbers that are not finite, or too large")
    if min(intrinsics[0, 0], intrinsics[1, 1]) <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise ImageError("intrinsics are not those of a camera: fx 0 cx, 0 fy cy, 0 0 1")
    return intrinsics


def read_tracked_pose(path: Path) -> Float[np.ndarray, "4 4"] | Path | None:
    """The pose of a file; None where its numbers are not finite: tracking was lost.

    A file that is missing or damaged stays its path: who reads the frame refuses it by name.
    """
    try:
        return read_pose(path)
    except ImageError as error:
        return None if _NOT_FINITE in str(error) else path


def with_centers_at_half(intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """K with pixel centers at +0.5, of one with centers at integers.

    Raises:
        ImageError: See `checked_intrinsics`.
    """
    moved = intrinsics.copy()
    moved[:2, 2] += 0.5
    return checked_intrinsics(moved)


def read_pose(path: Path) -> Float[np.ndarray, "4 4"]:
    """Read world_from_cam from a text file of sixteen numbers, its rotation made exact.

    Raises:
        ImageError: Missing, not sixteen finite numbers, or not a rigid motion.
    """
    return exact_pose(read_matrix(path, 4, what="pose"))


def exact_pose(pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The pose with the nearest exact rotation.

    Raises:
        ImageError: It has numbers that are not finite, or is not a rigid motion.
    """
    check_pose(pose)
    rotation = pose[:3, :3]
    u, _, vt = np.linalg.svd(rotation)
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = u @ vt, pose[:3, 3]
    return exact


def check_pose(pose: Float[np.ndarray, "4 4"]) -> None:
    """Refuse a world_from_cam that is not a rigid motion of a size that occurs.

    Raises:
        ImageError: It has numbers that are not finite or too large, a scale, a mirror, or another
            last row.
    """
    if not np.isfinite(pose).all():
        raise ImageError("pose has numbers that are not finite")
    rotation = pose[:3, :3]
    off = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if off > ROTATION_TOLERANCE or abs(np.linalg.det(rotation) - 1) > ROTATION_TOLERANCE:
        raise ImageError("pose is not a rotation")
    if np.abs(pose[3] - (0, 0, 0, 1)).max() > ROTATION_TOLERANCE:
        raise ImageError("pose does not end in the row 0 0 0 1")
    if np.abs(pose[:3, 3]).max() > _FARTHEST:
        raise ImageError(f"pose is farther than {_FARTHEST:g} from the origin")
