"""What `manifest` makes of a tree, as lines that a person can write by hand."""

import csv
import itertools
from pathlib import Path

import numpy as np
from PIL import Image
from trees import color_of

from distill3r_core.data.manifest import ManifestRow, read_manifest
from distill3r_core.io.images.depth import read_depth
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

_COLORS = np.array([color_of(frame) for frame in range(128)])
_HERE = (2, 2)  # in the part of an image that has its frame's color


def build(root: Path, out: Path, **settings) -> list[str]:
    """Run `manifest` without a check of the data; gives its notes. No scene is held out."""
    defaults = {"val_scenes": 0.0}
    chosen = ManifestSettings((root,), out, **{**defaults, **settings})
    return list(build_manifest(chosen, trust=True).notes)


def table(out: Path, *, leave: tuple[str, ...] = ()) -> list[str]:
    """Lines `scene | split camera order unit | what it has | WxH fx fy cx cy | windows | samples`.

    Neighbors that differ in the sample alone share a line. A sample is `<sample_id>:<frame>`, the
    frame by the color of its image. Depth is its median to one decimal, K to three.

    Args:
        out: The manifest's folder.
        leave: Samples that are not shown, whatever becomes of them.
    """
    rows = [
        (_line(row, out), f"{row.sample_id}:{frame_of(out / row.image_path)}")
        for row in read_manifest(out / "manifest.csv").rows
        if row.sample_id not in leave
    ]
    return [
        f"{line} | {' '.join(sample for _, sample in group)}"
        for line, group in itertools.groupby(rows, key=lambda row: row[0])
    ]


def reasons(out: Path) -> dict[str, str]:
    """Why inputs were left out, by their paths' last part; as `rejected.csv` says it."""
    path = out / "rejected.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {Path(line["path"]).name: line["reason"] for line in csv.DictReader(file)}


def frame_of(path: Path) -> int:
    """The number of the frame that an image has the color of."""
    with Image.open(path) as image:
        pixel = np.array(image.convert("RGB").getpixel(_HERE))
    return int(np.abs(_COLORS - pixel).sum(axis=1).argmin())


def _line(row: ManifestRow, out: Path) -> str:
    has = []
    if row.depth_path and row.depth_format:
        depth = read_depth(out / row.depth_path, stored=row.depth_format, unit=row.unit)
        assert depth.shape == (row.H, row.W)
        has.append(f"depth={float(np.median(depth[depth > 0])):.1f}")
    has += ["pose"] if row.pose else []
    has += ["mask"] if row.mask_path else []
    k = [row.K[place] for place in (0, 4, 2, 5)] if row.K_source != "none" else []
    shown = [f"{row.W}x{row.H}", *(f"{round(value, 3):g}" for value in k)]
    cells = (
        row.scene_id,
        f"{row.split} {row.camera} {row.order} {row.unit}",
        " ".join(has) or "-",
        " ".join(shown),
        ";".join(map(str, row.windows or ())),
    )
    return " | ".join(cells)
