"""Metric scale from something that is known: a distance between two views, or where they stood."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import RequestError
from distill3r_core.geometry.registration import scale_from_distances
from distill3r_core.stages.infer.pictures import LoadedView
from distill3r_core.stages.infer.reconstruction import Reconstruction, Scale

_DISTANCE = re.compile(r"^(?P<first>[^:]+):(?P<second>[^:]+)=(?P<metres>[^=]+)$")
_SYNTAX = "--scale-from FIRST:SECOND=METRES, or a file with a line `NAME X Y Z` per camera"


@dataclass(frozen=True)
class KnownPositions:
    """Camera centers in metres, in any frame, by the name of the view or of its file.

    Args:
        centers: What is known.
        source: Where from, in words.
    """

    centers: Mapping[str, Float[np.ndarray, "3"]]
    source: str

    def as_plain(self) -> dict[str, list[float]]:
        """For a record of what made a result."""
        return {name: center.tolist() for name, center in sorted(self.centers.items())}


def read_known(text: str) -> KnownPositions:
    """What `--scale-from` says: `FIRST:SECOND=METRES`, or a file of camera positions in metres.

    Raises:
        RequestError: It is neither, or a line of the file is not `NAME X Y Z`.
    """
    path = Path(text)
    if path.is_file():
        return KnownPositions(_read_positions(path), f"camera positions of {path.name}")
    match = _DISTANCE.match(text)
    metres = None if match is None else _number(match["metres"])
    if match is None or metres is None or metres <= 0:
        raise RequestError(f"cannot use --scale-from {text!r}", hint=_SYNTAX)
    first, second = match["first"].strip(), match["second"].strip()
    centers = {first: np.zeros(3), second: np.array([metres, 0.0, 0.0])}
    return KnownPositions(centers, f"{metres:g} m between {first} and {second}")


def check_known(known: KnownPositions, views: Sequence[LoadedView]) -> None:
    """Refuse positions that fit too few of the views, before any work.

    Raises:
        RequestError: Fewer than two views are known.
    """
    found = sum(_center_of(view, known) is not None for view in views)
    if found < 2:
        names = ", ".join(view.name for view in views[:8])
        raise RequestError(
            f"--scale-from knows {found} of {len(views)} views; it takes two",
            hint=f"views: {names}{', ...' if len(views) > 8 else ''}",
        )


def apply_known(scene: Reconstruction, known: KnownPositions) -> tuple[Reconstruction, list[str]]:
    """The reconstruction in metres, and what is to be said about it.

    Args:
        scene: In a unit of its own.
        known: Names that are not views are left aside.

    Raises:
        RequestError: Fewer than two views are known, or they stand at one place.
    """
    check_known(known, [view.loaded for view in scene.views])
    found = [
        (view.camera.world_from_cam[:3, 3], center)
        for view in scene.views
        if (center := _center_of(view.loaded, known)) is not None
    ]
    ours, theirs = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    factor, residual = scale_from_distances(ours, theirs)
    if not 0 < factor < float("inf"):
        raise RequestError(f"--scale-from: the {len(found)} views it knows stand at one place")
    scale = Scale("m", f"{known.source} ({len(found)} views)", residual)
    notes = [
        f"scale: 1 unit = {factor:.6g} m from {known.source}; "
        f"residual {residual:.4g} m over the distances between {len(found)} views"
    ]
    return scene.scaled(factor, scale), notes


def _center_of(view: LoadedView, known: KnownPositions) -> Float[np.ndarray, "3"] | None:
    names = (view.name,) if view.path is None else (view.name, view.path.name)
    return next((known.centers[name] for name in names if name in known.centers), None)


def _read_positions(path: Path) -> dict[str, Float[np.ndarray, "3"]]:
    centers: dict[str, np.ndarray] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = [part.strip() for part in line.replace(",", " ").split()]
        values = [_number(part) for part in parts[-3:]]
        if len(parts) < 4 or any(value is None for value in values):
            raise RequestError(f"{path}, line {number}: not `NAME X Y Z`: {line!r}", hint=_SYNTAX)
        centers[" ".join(parts[:-3])] = np.array(values, np.float64)
    return centers


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
