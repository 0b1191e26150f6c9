"""Samples of our cache as the original project stores them, and back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill3r_core.cache.original.original_format import OriginalSample
from distill3r_core.cache.store import CachedSample
from distill3r_core.errors import GeometryError
from distill3r_core.geometry.similarity import fit_similarity
from distill3r_core.types import TeacherTargets


@dataclass(frozen=True)
class OriginalPlace:
    """Where a sample is stored: its number among all planned samples of its scene.

    Args:
        scene: `<dataset>/<scene_id>`.
        number: Number of the sample within its scene, from 0.
        total: Number of samples that are planned of the scene.
    """

    scene: str
    number: int
    total: int

    @property
    def folder(self) -> str:
        """Folder of the sample, below the exported one."""
        return self.scene if self.total == 1 else f"{self.scene}_sample{self.number:02d}"


def original_places(planned: Iterable[str]) -> dict[str, OriginalPlace]:
    """Places of all planned samples, by name.

    They follow the plan, not what is finished: a sample keeps its number whenever it is made.
    """
    scenes: dict[str, list[str]] = {}
    for name in planned:
        scenes.setdefault(name.rsplit("/", 1)[0], []).append(name)
    return {
        name: OriginalPlace(scene, number, len(names))
        for scene, names in scenes.items()
        for number, name in enumerate(names)
    }


def as_original(sample: CachedSample, views: Mapping[str, Any]) -> OriginalSample:
    """A sample as the original project stores it: NaN and 0 where invalid."""
    targets = sample.targets
    invalid = ~targets.valid_mask

    def points(values: torch.Tensor) -> np.ndarray:
        return values.masked_fill(invalid[..., None], float("nan")).half().numpy()

    def confidence(values: torch.Tensor) -> np.ndarray:
        return values.masked_fill(invalid, 0.0).half().numpy()

    return OriginalSample(
        xyz_local=points(targets.points_local),
        xyz_global=points(targets.points_global),
        conf_local=confidence(targets.confidence_local),
        conf_global=confidence(targets.confidence_global),
        masks=targets.valid_mask.numpy(),
        views=views,
    )


def from_original(sample: OriginalSample) -> TeacherTargets:
    """The original's arrays as targets; the global map is stored where no similarity gives it."""
    local = torch.from_numpy(sample.xyz_local.astype(np.float32))
    own = torch.from_numpy(sample.xyz_global.astype(np.float32))
    confidence_local = torch.from_numpy(sample.conf_local.astype(np.float32))
    confidence_global = torch.from_numpy(sample.conf_global.astype(np.float32))
    # The mask says less than the maps: infinities of float16 are in them.
    mask = torch.from_numpy(sample.masks) & local.isfinite().all(-1) & own.isfinite().all(-1)
    mask = mask & confidence_local.isfinite() & confidence_global.isfinite()
    similarities = []
    for view, valid in enumerate(mask):
        try:
            similarities.append(fit_similarity(local[view][valid], own[view][valid]))
        except GeometryError:  # too few points to tell: the stored map is what counts
            similarities.append(torch.eye(3, 4))
    return TeacherTargets(
        points_local=torch.where(mask[..., None], local, 0.0),
        confidence_local=torch.where(mask, confidence_local, 1.0),
        confidence_global=torch.where(mask, confidence_global, 1.0),
        valid_mask=mask,
        global_from_local=torch.stack(similarities),
        stored_points_global=torch.where(mask[..., None], own, 0.0),
    )


def original_views(detail: Mapping[str, Any], name: str, place: OriginalPlace) -> dict[str, Any]:
    """The content of a sample's `sampled_views.json`.

    Args:
        detail: Where the sample came from, as the cache has it.
        name: Name of the sample.
        place: Where it is stored.
    """
    dataset, scene_id, _ = name.split("/", 2) if name.count("/") > 1 else ("", name, "")
    root = Path(detail.get("root", ""))
    found = [str(root / path) for path in detail.get("paths", detail["pictures"])]
    return {
        "dataset": detail.get("dataset", dataset),
        "scene_id": detail.get("scene_id", scene_id),
        "sample_id": place.number,
        "total_samples": place.total,
        "original_count": len(found),
        "sampled_count": len(found),
        "sampled_image_paths": found,
        "sampled_indices": list(range(len(found))),
    }


def sample_name(folder: Path, root: Path) -> str:
    """`<dataset>/<scene_id>/<window>` of a folder `<dataset>/<scene_id>[_sample<kk>]`."""
    relative = folder.relative_to(root).as_posix()
    stem, mark, number = relative.rpartition("_sample")
    if mark and number.isdigit():
        return f"{stem}/{int(number):03d}"
    return f"{relative}/000"
