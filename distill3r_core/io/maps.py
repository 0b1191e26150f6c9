"""Per-view maps as files: depth as 16-bit pictures with one scale, and all predictions as NPZ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from distill3r_core.files import replacing, write_text

_MOST = 65535


def write_depth_maps(
    folder: Path,
    depths: Mapping[str, Float[np.ndarray, "_ _"]],
    intrinsics: Mapping[str, Float[np.ndarray, "3 3"]],
    *,
    about: Mapping[str, Any],
) -> list[Path]:
    """Write `<name>.png` per view and `depth.json`.

    Args:
        folder: Of the files.
        depths: z in each camera's frame by the view's name, in the world's unit. Values that are
            not finite or not in front of the camera are written as 0.
        intrinsics: By name, in pixels of the depth map.
        about: Frame and scale of the scene.
    """
    usable = {name: np.isfinite(depth) & (depth > 0) for name, depth in depths.items()}
    highest = max(
        (float(depth[usable[name]].max(initial=0.0)) for name, depth in depths.items()), default=0.0
    )
    scale = highest / _MOST if highest > 0 else 1.0
    files = []
    for name, depth in depths.items():
        stored = np.where(usable[name], np.rint(np.where(usable[name], depth, 0) / scale), 0)
        path = folder / f"{name}.png"
        with replacing(path) as beside:
            Image.fromarray(stored.astype(np.uint16)).save(beside, compress_level=3)
        files.append(path)
    facts = {
        "about": {
            **about,
            "depth": "z in the view's camera = stored value * scale; 0: unknown",
            "intrinsics": "pixels of the depth map, centers at +0.5",
        },
        "scale": scale,
        "views": {name: {"intrinsics": intrinsics[name].tolist()} for name in depths},
    }
    path = folder / "depth.json"
    write_text(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return [*files, path]


def write_predictions(
    path: Path,
    views: Sequence[Mapping[str, Float[np.ndarray, "..."] | UInt8[np.ndarray, "..."]]],
    names: Sequence[str],
    *,
    about: Mapping[str, Any],
) -> None:
    """Write arrays of every view as one NPZ without pickled objects.

    Args:
        path: Of the file.
        views: Arrays by name. Those of view 7 get the keys `007/...`: sizes may differ by view.
        names: Of the views, stored as `names`.
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
