"""One HTML file that shows a cloud and its cameras in any browser, offline."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from distill3r_core.files import write_text
from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.cloud_picture import Eye
from distill3r_core.io.exports.frusta import FRUSTUM_EDGES, frustum, frustum_length
from distill3r_core.untrusted.printable import printable_name

_TILT = 20.0  # degrees from above, where the page opens
_BACK = 0.9  # of the extent, from the middle of the cloud
_HALF_ANGLE = np.pi / 6  # that is seen of the shorter side of the window at first
_ROOM = 1.1  # around the cameras
_FARTHEST = 3.0  # extents from the middle, for a camera that is to be seen at first
_OVERLAP = 1.5  # points are drawn larger than their distance, so that surfaces close


@dataclass(frozen=True)
class PagePart:
    """A cloud with its cameras.

    Args:
        name: What the page calls it, where it shows several.
        cloud: Kept as float32: the page shows the very points of the other formats.
        confidence: Confidence of each point; a slider in the page hides the low ones.
        cameras: Drawn as frusta.
    """

    name: str
    cloud: Cloud
    confidence: Float[np.ndarray, "M"]
    cameras: Sequence[Camera]


def write_page(
    path: Path, parts: Sequence[PagePart], *, title: str, about: Mapping[str, str]
) -> None:
    """Write the page: no other file, no server and no network is needed to open it.

    Args:
        parts: One cloud, or several in one frame and unit, which the page shows side by side or
            over each other. Where it opens, and the cameras it can look from, are the first one's.
        about: Frame and scale, shown below the title.
    """
    data = b"".join(
        (
            *(np.ascontiguousarray(part.cloud.points, "<f4").tobytes() for part in parts),
            *(np.ascontiguousarray(part.cloud.colors, np.uint8).tobytes() for part in parts),
            *(_ranks(part.confidence).tobytes() for part in parts),
        )
    )
    title = printable_name(title)
    facts = json.dumps(_facts(parts, title, about), ensure_ascii=False)
    template = (resources.files("distill3r_core.io.exports") / "html_page.html").read_text(
        encoding="utf-8"
    )
    filled = {
        "@TITLE@": html.escape(title),
        "@FACTS@": facts.replace("<", "\\u003c"),  # nothing in it may end the script element
        "@DATA@": base64.b64encode(data).decode(),
    }
    # In one pass: a title may look like a mark.
    write_text(path, re.sub("|".join(filled), lambda mark: filled[mark[0]], template))


def first_eye(parts: Sequence[PagePart]) -> Eye:
    """Where the page opens, for a picture of the same."""
    start = _start(parts)
    pose = np.eye(4)
    pose[:3, :3] = start["rotation"]
    pose[:3, 3] = np.array(start["target"]) - start["distance"] * pose[:3, 2]
    half = float(np.tan(_HALF_ANGLE))
    return Eye(pose, (half, half), spacing_of(parts[0].cloud, parts[0].cameras))


def _start(parts: Sequence[PagePart]) -> dict[str, Any]:
    """The page's first look: from behind the first camera and above, on all but wild cameras."""
    cameras = parts[0].cameras
    middle, extent = _extent(parts[0].cloud, cameras)
    turned = cameras[0].world_from_cam[:3, :3] @ Rotation.from_euler(
        "x", -_TILT, degrees=True
    ).as_matrix()  # fmt: skip
    centers = [camera.world_from_cam[:3, 3] for part in parts for camera in part.cameras]
    offsets = np.stack(centers) - middle
    near = np.linalg.norm(offsets, axis=1) <= _FARTHEST * extent
    across, down, ahead = (offsets[near] @ turned).T
    needed = _ROOM * np.maximum(abs(across), abs(down)) / np.tan(_HALF_ANGLE) - ahead
    return {
        "rotation": turned.tolist(),
        "target": middle.tolist(),
        "distance": float(needed.max(initial=_BACK * extent)),
    }


def _ranks(confidence: Float[np.ndarray, "M"]) -> np.ndarray:
    """Which 256th of the points each belongs to, by confidence."""
    places = np.empty(len(confidence), np.int64)
    places[np.argsort(confidence, kind="stable")] = np.arange(len(confidence))
    return (places * 256 // max(len(confidence), 1)).astype(np.uint8)


def _facts(parts: Sequence[PagePart], title: str, about: Mapping[str, str]) -> dict[str, Any]:
    cloud, cameras = parts[0].cloud, parts[0].cameras
    length = frustum_length(cameras, cloud)
    edges = np.array(FRUSTUM_EDGES)
    lines = [
        np.concatenate([frustum(camera, length)[edges].reshape(-1) for camera in part.cameras])
        for part in parts
    ]
    middle, extent = _extent(cloud, cameras)
    return {
        "title": title,
        "about": printable_name(
            " · ".join(f"{key.replace('_', ' ')}: {value}" for key, value in about.items())
        ),
        "points": sum(len(part.cloud) for part in parts),
        "parts": [
            {"name": printable_name(part.name), "points": points, "lines": corners}
            for part, points, corners in zip(
                parts,
                _ranges([len(part.cloud) for part in parts]),
                _ranges([len(one) // 3 for one in lines]),
                strict=True,
            )
        ],
        "extent": extent,
        "spacing": spacing_of(cloud, cameras),
        "start": _start(parts),
        "views": [_view(camera, middle, extent) for camera in cameras],
        "lines": np.concatenate(lines).round(6).tolist(),
    }


def _ranges(counts: Sequence[int]) -> list[tuple[int, int]]:
    """First item and number of items of parts that lie one behind the other."""
    return [(sum(counts[:index]), count) for index, count in enumerate(counts)]


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
