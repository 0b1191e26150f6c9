"""Per-view maps as files: depth as 16-bit images with a scale each, all predictions as NPZ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

from distill3r_core.files import replacing, write_text

_MOST = 65535
# Medians: what lies farther is stored as that far. Half of a view's pixels have 655 steps or more,
# however far away a single one may lie.
_FARTHEST = 100


def write_depth_maps(
    folder: Path,
    depths: Mapping[str, Float[np.ndarray, "_ _"]],
    intrinsics: Mapping[str, Float[np.ndarray, "3 3"]],
    *,
    about: Mapping[str, Any],
) -> list[Path]:
    """Write `<name>.png` per view and `depth.json`.

    Args:
        depths: z in each camera's frame by the view's name, in the world's unit. Values that are
            not finite or not in front of the camera are written as 0, those beyond a hundred times
            the view's median as the largest number there is.
        intrinsics: By name, in pixels of the depth map.
    """
    files, views = [], {}
    for name, depth in depths.items():
        stored, scale = _as_steps(depth)
        path = folder / f"{name}.png"
        with replacing(path) as beside:
            Image.fromarray(stored).save(beside, compress_level=3)
        files.append(path)
        views[name] = {"scale": scale, "intrinsics": intrinsics[name].tolist()}
    facts = {
        "about": {
            **about,
            "depth": "z in the view's camera = stored value * the view's scale; 0: unknown; "
            f"{_MOST}: that far, or farther",
            "intrinsics": "pixels of the depth map, centers at +0.5",
        },
        "views": views,
    }
    path = folder / "depth.json"
    write_text(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return [*files, path]


def _as_steps(depth: Float[np.ndarray, "H W"]) -> tuple[UInt16[np.ndarray, "H W"], float]:
    """Stored numbers, and what one of them stands for."""
    usable = np.isfinite(depth) & (depth > 0)
    known = depth[usable].astype(np.float64)
    if not known.size:
        return np.zeros(depth.shape, np.uint16), 1.0
    scale = min(known.max(), _FARTHEST * np.median(known)) / _MOST
    stored = np.zeros(depth.shape, np.uint16)
    stored[usable] = np.clip(np.rint(known / scale), 1, _MOST)
    return stored, float(scale)


def write_predictions(
    path: Path,
    views: Sequence[Mapping[str, Float[np.ndarray, "..."] | UInt8[np.ndarray, "..."]]],
    names: Sequence[str],
    *,
    about: Mapping[str, Any],
) -> None:
    """Write arrays of every view as one NPZ without pickled objects.

    Args:
        views: Arrays by name. Those of view 7 get the keys `007/...`: sizes may differ by view.
        about: Frame and scale, stored as JSON text under `about`.
    """
    arrays: dict[str, np.ndarray] = {
        "names": np.array(names),
        "about": np.array(json.dumps(dict(about), ensure_ascii=False)),
    }
    for index, view in enumerate(views):
        arrays |= {f"{index:03d}/{key}": value for key, value in view.items()}
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
