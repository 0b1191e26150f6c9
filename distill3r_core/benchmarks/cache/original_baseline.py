"""Baseline: the original project's cache, written and read as its release does.

One compressed archive per sample, always read in full and widened to float32, and one 960-pixel PNG
per view, resized with Lanczos and bilinearly in every epoch.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from distill3r_core.benchmarks.cache.rgbd_samples import FIT
from distill3r_core.cache.original.original_format import (
    ARRAYS,
    OriginalSample,
    decode_runs,
    write_sample,
)
from distill3r_core.io.images.fit import release_image
from distill3r_core.types import TeacherTargets

_PLANES = ("xyz_local", "xyz_global", "conf_local", "conf_global")


def as_original(targets: TeacherTargets) -> OriginalSample:
    """Targets as the release stores them; its masks are always full."""
    return OriginalSample(
        xyz_local=targets.points_local.half().numpy(),
        xyz_global=targets.points_global.half().numpy(),
        conf_local=targets.confidence_local.half().numpy(),
        conf_global=targets.confidence_global.half().numpy(),
        masks=targets.valid_mask.numpy(),
        views={"sampled_count": len(targets.valid_mask)},
    )


def save_targets(folder: Path, targets: TeacherTargets) -> int:
    """Write a sample; returns the bytes of the archive."""
    write_sample(folder, as_original(targets))
    return (folder / ARRAYS).stat().st_size


def load_targets(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Every view of a sample as float32 tensors."""
    with np.load(folder / ARRAYS, allow_pickle=True) as archive:
        arrays = {name: archive[name] for name in _PLANES}
        masks, count = archive["masks"], int(archive["num_views"])
    views = {}
    for index in range(count):
        views[f"view_{index}"] = {
            name: torch.from_numpy(values[index].astype(np.float32))
            for name, values in arrays.items()
        }
        size = (arrays["conf_local"].shape[1], arrays["conf_local"].shape[2])
        views[f"view_{index}"]["mask"] = torch.from_numpy(decode_runs(list(masks[index]), size))
    return views


def load_image(path: Path) -> Tensor:
    """A stored image as the student's input, in [-1, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    resized = torch.from_numpy(release_image(pixels, FIT)).movedim(-1, 0)
    return resized.contiguous().div_(127.5).sub_(1)


class OriginalDataset(Dataset[Any]):
    """Samples in folders of one archive and one PNG per view."""

    def __init__(self, folders: Sequence[Path], views: int, subset: int) -> None:
        self.folders, self.views, self.subset = folders, views, subset

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> tuple[Path, list[Tensor], list[int]]:
        folder = self.folders[index]
        chosen = sorted(random.sample(range(self.views), self.subset))
        return folder, [load_image(folder / f"{view}.png") for view in chosen], chosen

    def collate(self, batch: Sequence[tuple[Path, list[Tensor], list[int]]]) -> dict[str, Any]:
        """Images as one tensor, targets as dictionaries per view."""
        teacher = []
        for folder, _, chosen in batch:
            views = load_targets(folder)
            teacher.append({f"view_{k}": views[f"view_{view}"] for k, view in enumerate(chosen)})
        images = torch.stack([torch.stack(images) for _, images, _ in batch])
        return {"images": images, "teacher": teacher}


def original_loader(
    data: OriginalDataset, *, batch: int, batches: int, workers: int
) -> DataLoader[Any]:
    """The release's loader: worker processes, one batch ahead each."""
    return DataLoader(
        data,
        batch_size=batch,
        sampler=RandomSampler(data, replacement=True, num_samples=batch * batches),
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=1,
        collate_fn=data.collate,
    )


def stage(batch: dict[str, Any], memory: Tensor) -> int:
    """Copy every tensor into `memory`, as page-locking a batch does; returns the bytes."""
    tensors = [batch["images"]]
    tensors += [
        maps for sample in batch["teacher"] for view in sample.values() for maps in view.values()
    ]
    total = 0
    for values in tensors:
        flat = values.reshape(-1).view(torch.uint8)
        memory[: flat.numel()].copy_(flat)
        total += flat.numel()
    return total
