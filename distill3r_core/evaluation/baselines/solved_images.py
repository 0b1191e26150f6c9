"""What COLMAP has found for a sequence, kept in a file."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core.data.manifest_views import image_hash
from distill3r_core.errors import DamageError
from distill3r_core.evaluation.truth import SourceView
from distill3r_core.geometry.structure_from_motion import SolvedImage, SolverCamera
from distill3r_core.io.checksums import read_sealed, write_sealed

_VERSION = 1  # raised when the same images give other poses


def digest_of_images(sources: Sequence[SourceView], cameras: Sequence[SolverCamera]) -> str:
    """Digest of all that decides the result: the images, in order, and what is known of cameras."""
    facts = {
        "version": [_VERSION, metadata.version("pycolmap")],
        "images": [image_hash(source.view.image) for source in sources],
        "cameras": [asdict(camera) for camera in cameras],
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def save_solved(path: Path, solved: Mapping[int, SolvedImage]) -> None:
    """Keep what was found."""
    write_sealed(path, {"images": {str(index): _as_plain(one) for index, one in solved.items()}})


def load_solved(path: Path) -> dict[int, SolvedImage] | None:
    """What was found before, to the digit; None: nothing, or it is damaged."""
    try:
        return {int(index): _from_plain(one) for index, one in read_sealed(path)["images"].items()}
    except (OSError, DamageError, KeyError):
        return None


def _as_plain(one: SolvedImage) -> dict[str, Any]:
    return {
        "pose": _text_of(one.world_from_cam),
        "pixels": _text_of(one.pixels),
        "depth": _text_of(one.depth),
        "k": _text_of(one.intrinsics),
        "distortion_error": _text_of(np.array([one.distortion, one.error])),
        "size": one.size,
    }


def _from_plain(plain: Mapping[str, Any]) -> SolvedImage:
    distortion, error = _numbers(plain["distortion_error"])
    return SolvedImage(
        _numbers(plain["pose"]).reshape(4, 4),
        _numbers(plain["pixels"]).reshape(-1, 2),
        _numbers(plain["depth"]),
        _numbers(plain["k"]).reshape(3, 3),
        (plain["size"][0], plain["size"][1]),
        float(distortion),
        float(error),
    )


# Thousands of points of a view: as text, digit by digit, they would be megabytes.
def _text_of(numbers: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype="<f8").tobytes()).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
