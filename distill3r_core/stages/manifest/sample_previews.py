"""`manifest --preview`: a contact sheet of the first sample of each scene."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from distill3r_core.data.manifest import ManifestRow, Sample, read_manifest
from distill3r_core.data.manifest_views import read_pixels
from distill3r_core.files import path_below
from distill3r_core.io.contact_sheet import contact_sheet
from distill3r_core.io.images.decode import write_image
from distill3r_core.report import Progress, counted

FOLDER = "preview"
_ORDERS = {"number": "in the order of their numbers", "name": "in the order of their names"}


def write_previews(output: Path, *, progress: Progress) -> list[Path]:
    """One sheet for each scene of the manifest in a folder; sheets of before are replaced.

    Args:
        output: The manifest's folder.
        progress: Reports every scene.

    Returns:
        The folder of the sheets.
    """
    manifest = read_manifest(output / "manifest.csv")
    first: dict[tuple[str, str], Sample] = {}
    counts: dict[tuple[str, str], int] = {}
    for sample in manifest.samples():
        scene = (sample.dataset, sample.scene_id)
        first.setdefault(scene, sample)
        counts[scene] = counts.get(scene, 0) + 1
    folder = output / FOLDER
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    progress.begin("preview", total=len(first), unit="scenes")
    for scene, sample in first.items():
        sheet = contact_sheet(
            _images(output, sample),
            heading=heading_of(sample, counts[scene]),
            count=len(sample.rows),
        )
        path = path_below(folder, f"{sample.dataset}/{sample.scene_id}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, sheet)
        progress.advance()
    return [folder]


def heading_of(sample: Sample, samples: int) -> str:
    """What the sheet shows: which sample of how many, its views and how far apart they are."""
    views = counted(len(sample.rows), "view")
    order = _ORDERS.get(sample.rows[0].order, "without an order")
    steps = np.diff([int(row.sample_id) for row in sample.rows])
    apart = ""
    if len(steps):
        least, most = int(steps.min()), int(steps.max())
        apart = f", numbers {least if least == most else f'{least} to {most}'} apart"
    which = "the only sample" if samples == 1 else f"the first of {samples} samples"
    return f"{sample.name} ({which}): {views}{apart}, {order}"


def _images(output: Path, sample: Sample) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], str]]:
    for row in sample.rows:
        yield read_pixels(row, output), _caption(row)


def _caption(row: ManifestRow) -> str:
    known = [name for name, there in (("depth", row.depth_path), ("pose", row.pose)) if there]
    return " ".join([row.sample_id, f"{row.W}x{row.H}", *known])
