"""The training frames of a run, and what their depth alone predicts for a test frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.errors import CacheError, ConfigError, ConflictError, InputMissingError
from distill3r_core.evaluation.baselines.baseline_depth import (
    fill_holes,
    mean_depth,
    nearest_frames,
    same_depth,
)
from distill3r_core.evaluation.truth import Truth
from distill3r_core.evaluation.validation_samples import poses_of
from distill3r_core.geometry.cameras import unproject
from distill3r_core.geometry.resample import resample_nearest, whole
from distill3r_core.geometry.scale import masked_median

MAX_SAMPLES = 200  # to average over, spread evenly over all samples


@dataclass(frozen=True)
class TrainingFrame:
    """A training frame of a cache."""

    sample: str
    view: int


class TrainingFrames:
    """The training frames of a run, read from the caches that it learned from.

    Args:
        size: Size of the student's input, landscape; None: that of the cache.
    """

    def __init__(self, cache: CacheUnion, *, size: tuple[int, int] | None) -> None:
        self.cache, self.size = cache, size
        self._means: dict[tuple[int, int], Tensor] = {}

    @classmethod
    def of_run(
        cls, paths: Sequence[Path], *, size: tuple[int, int] | None
    ) -> "TrainingFrames | None":
        """The frames in the caches at `paths`; None where there are none or one is unreadable."""
        if not paths:
            return None
        try:
            return cls(CacheUnion.open(paths), size=size)
        except (InputMissingError, ConflictError, CacheError, ConfigError):
            return None

    def mean_points(self, truth: Truth) -> Float[Tensor, "N H W 3"] | None:
        """Points of the mean depth map, at a sequence's grid; None where there is no depth."""
        mean = self._mean(truth.size)
        return None if mean is None else same_depth(mean, truth.intrinsics)

    def _mean(self, size: tuple[int, int]) -> Float[Tensor, "H W"] | None:
        """The mean depth map of training frames, at a grid."""
        if size not in self._means:
            names = self.cache.names("train")
            step = -(-len(names) // MAX_SAMPLES) or 1
            maps = [self._depth(name, None, size) for name in names[::step]]
            if not maps or not any(mask.any() for _, mask in maps):
                return None
            depth, mask = (torch.cat(parts) for parts in zip(*maps, strict=True))
            self._means[size] = mean_depth(depth, mask)
        return self._means[size]

    def nearest(
        self, truth: Truth
    ) -> tuple[Float[Tensor, "N H W 3"], Float[Tensor, "N 4 4"]] | None:
        """Points and poses of the nearest training frames of the same world.

        Holes of their maps are filled by the mean map. None where the sequence has no poses, or
        no training frame shares its world.

        Returns:
            Points in each camera's frame at the sequence's grid, and `world_from_cam`, in meters.
        """
        mean = self._mean(truth.size)
        frames, poses = self._frames_of(truth.world)
        if mean is None or truth.world_poses is None or not frames:
            return None
        chosen = nearest_frames(truth.world_poses, poses)
        nearest = [frames[index] for index in chosen.tolist()]
        maps = [self._depth(frame.sample, [frame.view], truth.size) for frame in nearest]
        depth = torch.cat([fill_holes(depth, mask, mean) for depth, mask in maps])
        return unproject(depth, truth.intrinsics), poses[chosen]

    def samples_in(self, world: str) -> list[str]:
        """Names of the training samples of a world."""
        return [
            name
            for name in self.cache.names("train")
            if (self.cache.place(name)[1].rpartition("/")[0] + "/").startswith(f"{world}/")
        ]

    def _frames_of(self, world: str) -> tuple[list[TrainingFrame], Float[Tensor, "M 4 4"]]:
        """Training frames whose poses are known in a world, and these poses, in meters."""
        frames: list[TrainingFrame] = []
        poses: list[Tensor] = []
        for name in self.samples_in(world):
            views = range(self.cache.entry(name).views)
            found = poses_of(self.cache.detail(name), views)
            if found is not None:
                frames += [TrainingFrame(name, view) for view in views]
                poses.append(found)
        return frames, torch.cat(poses) if poses else torch.empty(0, 4, 4)

    def _depth(
        self, name: str, views: Sequence[int] | None, size: tuple[int, int]
    ) -> tuple[Float[Tensor, "N H W"], Bool[Tensor, "N H W"]]:
        """Depth maps of a sample's views, resampled to a grid.

        Where the teacher has no unit, every map is divided by its median: only their shapes
        can be compared.
        """
        _, targets = read_at(self.cache, name, views, size=self.size)
        depth, mask = targets.points_local[..., 2], targets.valid_mask
        if depth.shape[1:] != size:
            depth, mask = (
                torch.stack([resample_nearest(one, whole(one), size) for one in maps])
                for maps in (depth, mask)
            )
        if not self.cache.metric:
            depth = depth / masked_median(depth.flatten(1), mask.flatten(1))[:, None, None]
        return depth, mask
