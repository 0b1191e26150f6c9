"""A camera's pose from points it sees, by PnP with RANSAC. Needs pycolmap, the extra `colmap`."""

import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from distill3r_core.errors import ExtraMissingError, GeometryError

_BOUND_WIDTH = 512
_WIDEST = 64.0  # pixels of an image 512 wide: a bound beyond it agrees with any pose
_SEARCHED = 1000  # pairs by which a bound is found, at most
_ENOUGH, _MORE = 0.5, 1.5  # share of the pairs; times the pairs
_MAX_TRIALS = 1000  # finds a pose that a quarter of the points agree on, all but surely


@dataclass(frozen=True)
class AgreementBound:
    """Up to which error a pair agrees with a pose.

    Args:
        pixels: Of an image 512 wide; scaled with the image, unlike the release's fixed 5 pixels.
        widens: Whether it is doubled while fewer than half of the pairs agree and twice the bound
            finds at least 1.5 times as many: of points that are all off by more than the bound,
            RANSAC takes those that chance to agree. Where the others are far off, it stays.
    """

    pixels: float = 5.0
    widens: bool = False


# Ten pixels of an image 640 wide, as is usual with scene coordinates.
SCENE_BOUND = AgreementBound(8.0, widens=True)


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
    bound: AgreementBound = AgreementBound(),
) -> Float[np.ndarray, "4 4"]:
    """`world_from_cam` of a pinhole camera, robust against wrong pairs.

    Args:
        points: In the world frame, finite.
        pixels: Where they are seen (u, v), centers at +0.5.
        intrinsics: In pixels of the image, equal focal lengths.
        size: Rows and columns of the image.
        seed: Seed of the random samples.
        bound: Which pairs agree with a pose.

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

    def estimate(error: float, step: int = 1) -> dict[str, Any] | None:
        options.ransac.max_error = error * max(size) / _BOUND_WIDTH
        some = (values[::step] for values in pairs)
        return pycolmap.estimate_absolute_pose(*some, camera, options)

    error = bound.pixels
    if bound.widens and len(points):
        step = -(-len(points) // _SEARCHED)
        error = _widened(error, len(points[::step]), lambda error: estimate(error, step))
    found = estimate(error)
    if found is not None:
        start, agreeing = found["cam_from_world"], found["inlier_mask"]
        found = pycolmap.refine_absolute_pose(start, *pairs, agreeing, camera)
    if found is None:
        raise GeometryError("PnP found no pose that explains these points")
    pose = np.eye(4)
    pose[:3] = found["cam_from_world"].inverse().matrix()
    return pose


def _widened(error: float, pairs: int, estimate: Callable[[float], dict[str, Any] | None]) -> float:
    """The bound for so many pairs, see `AgreementBound`; the first where none finds a pose."""
    best, agreeing, tried = error, 0, error
    while tried <= _WIDEST and agreeing < _ENOUGH * pairs:
        found = estimate(tried)
        if found is not None:
            if found["num_inliers"] < _MORE * agreeing:
                break
            best, agreeing = tried, found["num_inliers"]
        tried *= 2
    return best
