"""One HTML file that shows a cloud and its cameras in any browser, offline."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from distill3r_core.files import write_text
from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.frusta import FRUSTUM_EDGES, frustum, frustum_length
from distill3r_core.untrusted.printable import printable_name

_TILT = 20.0  # degrees from above, where the page opens
_BACK = 0.9  # of the extent, from the middle of the cloud
_HALF_ANGLE = np.pi / 6  # that is seen of the shorter side of the window at first
_ROOM = 1.1  # around the cameras
_FARTHEST = 3.0  # extents from the middle, for a camera that is to be seen at first
_OVERLAP = 1.5  # points are drawn larger than their distance, so that surfaces close


def write_page(
    path: Path,
    cloud: Cloud,
    confidence: Float[np.ndarray, "M"],
    cameras: Sequence[Camera],
    *,
    title: str,
    about: Mapping[str, str],
) -> None:
    """Write the page: no other file, no server and no network is needed to open it.

    Args:
        cloud: Kept as float32: the page shows the very points of the other formats.
        confidence: Confidence of each point; a slider in the page hides the low ones.
        cameras: Drawn as frusta; the page can look from each of them.
        about: Frame and scale, shown below it.
    """
    data = b"".join(
        (
            np.ascontiguousarray(cloud.points, "<f4").tobytes(),
            np.ascontiguousarray(cloud.colors, np.uint8).tobytes(),
            _ranks(confidence).tobytes(),
        )
    )
    title = printable_name(title)
    facts = json.dumps(_facts(cloud, cameras, title, about), ensure_ascii=False)
    template = (resources.files("distill3r_core.io.exports") / "html_page.html").read_text(
        encoding="utf-8"
    )
    parts = {
        "@TITLE@": html.escape(title),
        "@FACTS@": facts.replace("<", "\\u003c"),  # nothing in it may end the script element
        "@DATA@": base64.b64encode(data).decode(),
    }
    # In one pass: a title may look like a mark.
    write_text(path, re.sub("|".join(parts), lambda mark: parts[mark[0]], template))


def _ranks(confidence: Float[np.ndarray, "M"]) -> np.ndarray:
    """Which 256th of the points each belongs to, by confidence."""
    places = np.empty(len(confidence), np.int64)
    places[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return (places * 256 // max(len(confidence), 1)).astype(np.uint8)


def _facts(
    cloud: Cloud, cameras: Sequence[Camera], title: str, about: Mapping[str, str]
) -> dict[str, Any]:
    length = frustum_length(cameras, cloud)
    edges = np.array(FRUSTUM_EDGES)
    lines = [frustum(camera, length)[edges].reshape(-1) for camera in cameras]
    middle, extent = _extent(cloud, cameras)
    turned = cameras[0].world_from_cam[:3, :3] @ Rotation.from_euler(
        "x", -_TILT, degrees=True
    ).as_matrix()  # fmt: skip
    return {
        "title": title,
        "about": printable_name(
            " · ".join(f"{key.replace('_', ' ')}: {value}" for key, value in about.items())
        ),
        "points": len(cloud),
        "extent": extent,
        "spacing": spacing_of(cloud, cameras),
        "start": {
            "rotation": turned.tolist(),
            "target": middle.tolist(),
            "distance": _distance(turned, middle, extent, cameras),
        },
        "views": [_view(camera, middle, extent) for camera in cameras],
        "lines": np.concatenate(lines).round(6).tolist(),
    }


def spacing_of(cloud: Cloud, cameras: Sequence[Camera]) -> float:
    """How large points are to be drawn so that surfaces close, in the world's unit.

    Args:
        cloud: Points on surfaces; where there is none, the cameras say how large the scene is.
    """
    _, extent = _extent(cloud, cameras)
    return _OVERLAP * extent / max(len(cloud), 1) ** 0.5


def _extent(cloud: Cloud, cameras: Sequence[Camera]) -> tuple[Float[np.ndarray, "3"], float]:
    """The middle and the size of what there is to see, without the wildest points."""
    seen = (
        cloud.points.astype(np.float64)
        if len(cloud)
        else np.stack([camera.world_from_cam[:3, 3] for camera in cameras])
    )
    low, high = np.percentile(seen, 5, axis=0), np.percentile(seen, 95, axis=0)
    return np.median(seen, axis=0), float(max(np.linalg.norm(high - low), 1e-6))


def _distance(
    rotation: Float[np.ndarray, "3 3"],
    target: Float[np.ndarray, "3"],
    extent: float,
    cameras: Sequence[Camera],
) -> float:
    """How far the page's first look is from its target: the cameras are seen too, but wild ones."""
    offsets = np.stack([camera.world_from_cam[:3, 3] for camera in cameras]) - target
    near = np.linalg.norm(offsets, axis=1) <= _FARTHEST * extent
    across, down, ahead = (offsets[near] @ rotation).T
    needed = _ROOM * np.maximum(abs(across), abs(down)) / np.tan(_HALF_ANGLE) - ahead
    return float(needed.max(initial=_BACK * extent))


def _view(camera: Camera, middle: Float[np.ndarray, "3"], extent: float) -> dict[str, Any]:
    pose = camera.world_from_cam
    ahead = float((middle - pose[:3, 3]) @ pose[:3, 2])
    height, width = camera.size
    half = np.array([width / camera.intrinsics[0, 0], height / camera.intrinsics[1, 1]]) / 2
    return {
        "name": printable_name(camera.name),
        "rotation": pose[:3, :3].tolist(),
        "center": pose[:3, 3].tolist(),
        "depth": max(ahead, 0.1 * extent),
        "spread": half.tolist(),
    }
