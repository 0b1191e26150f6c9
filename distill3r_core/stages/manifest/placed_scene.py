"""What COLMAP has found for a scene, kept beside the manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from distill3r_core.data.layouts import Rig, Scene
from distill3r_core.errors import DamageError
from distill3r_core.geometry.metric_scale import SceneScale
from distill3r_core.io.checksums import read_sealed, write_sealed
from distill3r_core.stages.manifest.frame_index import sources_of

_VERSION = 2  # raised when the same images give other poses


@dataclass(frozen=True, eq=False)
class PlacedScene:
    """Cameras that were found for a scene.

    Args:
        poses: world_from_cam of the color camera by the frame's name, in the frame's unit where
            there is depth.
        rigs: The color camera of each of these frames, where it was estimated.
        unread: Why frames could not be read, by their names.
        scale: Where there is depth: units of the frames in one of COLMAP's.
        shift: Pixels by which distortion moves a corner of an image, at most.
        error: Pixels by which COLMAP's points miss where they are seen: the median of the views'
            means; NaN where nothing was placed.
    """

    poses: Mapping[str, Float[np.ndarray, "4 4"]]
    rigs: Mapping[str, Rig]
    unread: Mapping[str, str]
    scale: SceneScale | None
    shift: float
    error: float


def digest_of(scene: Scene) -> str:
    """Digest of all that decides the result: files and what is known of them."""
    facts = {
        "version": _VERSION,
        "ordered": scene.is_ordered,
        "frames": [
            {
                "name": frame.name,
                "files": sources_of(frame),
                "rig": None if frame.rig is None else vars(frame.rig),
                "depth": None
                if frame.depth is None
                else {**vars(frame.depth), "path": None, "valid": frame.depth.valid is not None},
            }
            for frame in scene.frames
        ],
    }
    text = json.dumps(facts, sort_keys=True, default=np.ndarray.tolist)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def save_placed(path: Path, made: str, solved: PlacedScene) -> None:
    """Keep what was found for the scene with a digest."""
    record = {
        "made": made,
        "poses": {name: pose.ravel().tolist() for name, pose in solved.poses.items()},
        "rigs": {
            name: {"k": rig.color.ravel().tolist(), "size": rig.size}
            for name, rig in solved.rigs.items()
        },
        "unread": dict(solved.unread),
        "scale": None if solved.scale is None else vars(solved.scale),
        "shift": solved.shift,
        "error": None if np.isnan(solved.error) else solved.error,
    }
    write_sealed(path, record)


def load_placed(path: Path, made: str) -> PlacedScene | None:
    """What was found for the same files before; None: nothing, or it is damaged."""
    try:
        record = read_sealed(path)
        if record["made"] != made:
            return None
        scale, unread = record["scale"], record["unread"]
        if isinstance(unread, list):  # of an older version, which kept no reasons
            if unread:
                return None
            unread = {}
        return PlacedScene(
            {name: _matrix(pose, 4) for name, pose in record["poses"].items()},
            {
                name: Rig(_matrix(rig["k"], 3), (rig["size"][0], rig["size"][1]))
                for name, rig in record["rigs"].items()
            },
            {name: str(reason) for name, reason in unread.items()},
            None if scale is None else SceneScale(**scale),
            float(record["shift"]),
            float("nan") if record["error"] is None else float(record["error"]),
        )
    except (FileNotFoundError, DamageError, KeyError):
        return None


def _matrix(numbers: Sequence[float], side: int) -> Float[np.ndarray, "_ _"]:
    return np.array(numbers, dtype=np.float64).reshape(side, side)
