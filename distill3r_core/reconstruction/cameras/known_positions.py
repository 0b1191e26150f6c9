"""Metric scale from something that is known: a distance between two views, or where they stood."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.files import read_text_file, refuse_special, shown_name
from distill3r_core.geometry.registration import scale_from_distances
from distill3r_core.io.images.inputs import natural_key
from distill3r_core.reconstruction.loaded_views import LoadedView
from distill3r_core.reconstruction.reconstruction import PosedView, Reconstruction
from distill3r_core.reconstruction.scale import Scale

_DISTANCE = re.compile(r"^(?P<first>[^:]+):(?P<second>[^:]+)=(?P<meters>[^=]+)$")
_WORD = re.compile(r"[^\s,]+")
_MAX_NAMES = 8
_DOUBTFUL = 0.1  # of the median distance: no scale is known to more than its residual
# Positions of cameras are not known to less than this share of the depth, whatever the maps say.
_MIN_NOISE = 0.01
_SYNTAX = "--scale-from FIRST:SECOND=METERS, or a file with a line `NAME X Y Z` per camera"


@dataclass(frozen=True)
class KnownPositions:
    """Camera centers in meters, in any frame, by the name of the view or of its file."""

    centers: Mapping[str, Float[np.ndarray, "3"]]
    source: str

    def as_plain(self) -> dict[str, list[float]]:
        """For a record of what made a result."""
        return {name: center.tolist() for name, center in sorted(self.centers.items())}


def read_known(text: str) -> KnownPositions:
    """What `--scale-from` says: `FIRST:SECOND=METERS`, or a file of camera positions in meters.

    Raises:
        InputMissingError: There is no such file.
        RequestError: It is neither, or a line of the file is not `NAME X Y Z`.
    """
    path = Path(text)
    refuse_special(path)
    if path.is_file():
        return KnownPositions(_read_positions(path), f"camera positions of {path.name}")
    match = _DISTANCE.match(text)
    if match is None and not {"=", ":"} & set(text):
        raise InputMissingError(f"--scale-from: no file {path}", hint=_SYNTAX)
    meters = None if match is None else _number(match["meters"])
    if match is None or meters is None or meters <= 0:
        raise RequestError(f"cannot use --scale-from {text!r}", hint=_SYNTAX)
    first, second = match["first"].strip(), match["second"].strip()
    centers = {first: np.zeros(3), second: np.array([meters, 0.0, 0.0])}
    return KnownPositions(centers, f"{meters:g} m between {first} and {second}")


def check_known(known: KnownPositions, views: Sequence[LoadedView]) -> None:
    """Refuse positions that fit too few of the views, before any work.

    Raises:
        RequestError: Fewer than two views are known, or a name fits several of them.
    """
    found = len(_centers_of(views, known))
    if found < 2:
        own = {view.name for view in views}
        unknown = _unknown_names(views, known)
        said = f"; no view is called {', '.join(unknown[:_MAX_NAMES])}" if unknown else ""
        near = [get_close_matches(name, own, n=1) for name in unknown]
        meant = [match for matches in near for match in matches] or sorted(own, key=natural_key)
        names = ", ".join(meant[:_MAX_NAMES])
        raise RequestError(
            f"--scale-from knows {found} of {len(views)} views; it takes two{said}",
            hint=f"views: {names}{', ...' if len(own) > len(meant[:_MAX_NAMES]) else ''}",
        )


def apply_known(scene: Reconstruction, known: KnownPositions) -> tuple[Reconstruction, list[str]]:
    """The reconstruction in meters, and what is to be said about it.

    Args:
        scene: In a unit of its own.
        known: Names that are not views are left aside.

    Raises:
        RequestError: Fewer than two views are known, they stand at one place, or the distances
            between them are below the noise of the reconstruction.
    """
    views = [view.loaded for view in scene.views]
    check_known(known, views)
    centers = _centers_of(views, known)
    found = [
        (scene.views[index].camera.world_from_cam[:3, 3], center)
        for index, center in centers.items()
    ]
    ours, theirs = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    factor, residual = scale_from_distances(ours, theirs)
    if not 0 < factor < float("inf"):
        raise RequestError(f"--scale-from: the {len(found)} views it knows stand at one place")
    _require_baseline(torch.pdist(ours).max().item(), [scene.views[index] for index in centers])
    said = f"scale: 1 unit = {factor:.6g} m from {known.source}"
    unused: list[str] = []
    if unknown := _unknown_names(views, known):
        more = ", ..." if len(unknown) > _MAX_NAMES else ""
        unused.append(f"--scale-from: no view is called {', '.join(unknown[:_MAX_NAMES])}{more}")
    if len(found) == 2:  # one distance is always met exactly
        scale = Scale("m", f"{known.source} ({len(found)} views), unverified")
        return scene.scaled(factor, scale), [
            f"{said}; unverified: one distance cannot be checked, positions of three views can",
            *unused,
        ]
    scale = Scale("m", f"{known.source} ({len(found)} views)", residual)
    notes = [f"{said}; residual {residual:.4g} m over the distances between {len(found)} views"]
    share = residual / torch.pdist(theirs).median().item()
    if share > _DOUBTFUL:
        notes.append(
            f"warning: the residual is {share:.0%} of the median distance: names may be mixed up, "
            "or the student's poses wrong"
        )
    return scene.scaled(factor, scale), [*notes, *unused]


def _require_baseline(baseline: float, views: Sequence[PosedView]) -> None:
    """Refuse views that stand so close together that their distance is mostly noise.

    The noise of a camera's position is taken as the median distance of the view's aligned points
    from its global ones, and as 1 percent of its median depth at least.

    Raises:
        RequestError: Names both numbers.
    """
    depth = abs(_finite_median(np.concatenate([view.depth.ravel() for view in views])))
    residuals = []
    for view in views:
        if view.aligned is None:  # there is one map
            residuals.append(0.0)
            continue
        off = np.linalg.norm(view.aligned.world_map.points - view.global_map.points, axis=-1)
        residuals.append(_finite_median(off))
    noise = max(_MIN_NOISE * depth, float(np.median(residuals)))
    if baseline < noise and depth > 0:
        raise RequestError(
            f"--scale-from: the known views stand {baseline / depth:.2%} of the depth apart, "
            f"less than the noise of the reconstruction ({noise / depth:.2%}): a scale from "
            "them would be arbitrary",
            hint="name views that stand farther apart",
        )


def _finite_median(values: Float[np.ndarray, "*shape"]) -> float:
    """Median of the finite values; 0 where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else 0.0


def _unknown_names(views: Sequence[LoadedView], known: KnownPositions) -> list[str]:
    """Names of the positions that are no view's."""
    own = {view.name for view in views}
    return [name for name in known.centers if name not in own and not _of_file(name, views)]


def _centers_of(
    views: Sequence[LoadedView], known: KnownPositions
) -> dict[int, Float[np.ndarray, "3"]]:
    """Where views stand, by their index. A view's own name goes before that of its file.

    Raises:
        RequestError: The name of a file is that of several views.
    """
    by_name = {view.name: index for index, view in enumerate(views)}
    centers = {}
    for name, center in known.centers.items():
        fitting = [by_name[name]] if name in by_name else _of_file(name, views)
        if len(fitting) > 1:
            names = ", ".join(views[index].name for index in fitting[:8])
            raise RequestError(
                f"--scale-from: {len(fitting)} views come from a file called {name}",
                hint=f"name one of the views: {names}{', ...' if len(fitting) > 8 else ''}",
            )
        centers |= dict.fromkeys(fitting, center)
    return centers


def _of_file(name: str, views: Sequence[LoadedView]) -> list[int]:
    """The views whose file has this name, with its suffix or without."""
    return [
        index
        for index, view in enumerate(views)
        if view.path is not None and name in (view.path.name, view.path.stem)
    ]


def _read_positions(path: Path) -> dict[str, Float[np.ndarray, "3"]]:
    centers: dict[str, np.ndarray] = {}
    lines = read_text_file(path, encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = list(_WORD.finditer(line))
        values = [_number(word[0]) for word in words[-3:]]
        if len(words) < 4 or any(value is None for value in values):
            raise RequestError(
                f"{path}, line {number}: not `NAME X Y Z`: {shown_name(line)}", hint=_SYNTAX
            )
        name = line[: words[-3].start()].rstrip(", \t").lstrip()  # it may have blanks and commas
        if name in centers:
            raise RequestError(f"{path}, line {number}: {name[:80]} is there twice", hint=_SYNTAX)
        centers[name] = np.array(values, np.float64)
    return centers


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
