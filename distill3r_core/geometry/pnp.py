"""A camera's pose from points it sees, by PnP with RANSAC. Needs pycolmap, the extra `colmap`."""

import signal
import sys
import threading
from collections.abc import Callable
from importlib import util
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ExtraMissingError, GeometryError

# Pixels of an image 512 wide; scaled with the image, unlike the release's fixed 5 pixels.
_MAX_ERROR, _MAX_ERROR_WIDTH = 5.0, 512
_SEARCHED = 1000  # pairs by which a bound is found, at most
_MORE = 1.5  # times the pairs, by which a bound that is too narrow for the points is known
_MAX_TRIALS = 1000  # finds a pose that a quarter of the points agree on, all but surely


def pnp_available() -> bool:
    """Whether pycolmap is installed."""
    return util.find_spec("pycolmap") is not None


def require_pycolmap(purpose: str) -> None:
    """Refuse what needs pycolmap where it is not installed.

    Args:
        purpose: What needs it, as a plural for the message.

    Raises:
        ExtraMissingError: Names the command that adds it.
    """
    if not pnp_available():
        raise ExtraMissingError(
            f"{purpose} need the extra 'colmap'", hint="pip install 'distill3r[colmap]'"
        )


def prepare() -> None:
    """Load the library before threads use it: only the main one can undo what it does to signals.

    Raises:
        ExtraMissingError: It is not installed.
    """
    require_pycolmap("poses by pycolmap")
    _pycolmap()


def _pycolmap() -> ModuleType:
    """The library, without what it does to the process: its log takes SIGTERM, with a dump."""
    first = "pycolmap" not in sys.modules
    import pycolmap

    if first and threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:  # Python's own: set anew where the library has overwritten it
            signal.signal(signal.SIGTERM, handler)
    return pycolmap


def pose_from_points(
    points: Float[np.ndarray, "M 3"],
    pixels: Float[np.ndarray, "M 2"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    *,
    seed: int = 0,
    max_error: float = _MAX_ERROR,
    widen: bool = False,
) -> Float[np.ndarray, "4 4"]:
    """`world_from_cam` of a pinhole camera, robust against wrong pairs.

    Args:
        points: In the world frame, finite.
        pixels: Where they are seen (u, v), centers at +0.5.
        intrinsics: In pixels of the image, equal focal lengths.
        size: Rows and columns of the image.
        seed: Seed of the random samples.
        max_error: Pixels of an image 512 wide up to which a pair agrees with a pose.
        widen: Double `max_error` for as long as that finds half as many pairs again: of points
            that are all off by more than it, RANSAC takes those that chance to agree. Exact points
            among wrong ones stay with the first bound, of which twice finds hardly more.

    Raises:
        GeometryError: No pose explains enough of the pairs.
    """
    pycolmap = _pycolmap()
    height, width = size
    camera = pycolmap.Camera(
        model="PINHOLE",
        width=width,
        height=height,
        params=[intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]],
    )
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_num_trials = _MAX_TRIALS
    options.ransac.random_seed = seed
    pairs = pixels.astype(np.float64), points.astype(np.float64)

    def estimate(bound: float, step: int = 1) -> dict[str, Any] | None:
        options.ransac.max_error = bound * max(size) / _MAX_ERROR_WIDTH
        some = (values[::step] for values in pairs)
        return pycolmap.estimate_absolute_pose(*some, camera, options)

    if widen:
        step = -(-len(points) // _SEARCHED)
        max_error = _widened(max_error, lambda bound: estimate(bound, step))
    found = estimate(max_error)
    if found is not None:
        start, agreeing = found["cam_from_world"], found["inlier_mask"]
        found = pycolmap.refine_absolute_pose(start, *pairs, agreeing, camera)
    if found is None:
        raise GeometryError("PnP found no pose that explains these points")
    pose = np.eye(4)
    pose[:3] = found["cam_from_world"].inverse().matrix()
    return pose


def _widened(bound: float, estimate: Callable[[float], dict[str, Any] | None]) -> float:
    """The bound, doubled for as long as that finds `_MORE` times the pairs."""
    agreeing = 0
    while (found := estimate(bound)) is None or found["num_inliers"] >= _MORE * agreeing:
        if 2 * bound > _MAX_ERROR_WIDTH:
            return bound
        agreeing = found["num_inliers"] if found else 0
        bound *= 2
    return bound / 2
