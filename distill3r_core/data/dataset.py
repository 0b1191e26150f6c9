"""Samples of a teacher cache as the student sees them: some views, some anchor, its own size."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill3r_core.data import augment
from distill3r_core.data.batches import Batch, Draw, collate, map_targets, rng_of
from distill3r_core.errors import Distill3rError
from distill3r_core.geometry.cameras import place_intrinsics, unproject
from distill3r_core.geometry.resample import resample_nearest, whole
from distill3r_core.io.fit import oriented, resize_picture
from distill3r_core.nn.view_codes import random_view_numbers, sequential_view_numbers
from distill3r_core.types import Placement, TeacherTargets

_SEEDS = 2**63


@runtime_checkable
class Stored(Protocol):
    """A sample as a cache gives it: uint8 pictures (N, 3, H, W) and float32 targets (N, ...)."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> TeacherTargets: ...


@runtime_checkable
class Source(Protocol):
    """Where samples are read from: a `TeacherCache`, or `Held` samples in memory."""

    def read(self, name: str, views: Sequence[int] | None = None) -> Stored:
        """Some views of a sample, in that order; None: all of them."""
        ...


@dataclass(frozen=True)
class Use:
    """How samples are drawn.

    Args:
        views: How many views a draw shows; None: all.
        augment_views: A random subset in random order, with the first of it as the anchor.
        mirror: Every second draw is mirrored, all its views alike.
        colors: Colors are changed at random, each view on its own.
        random_view_numbers: Views but the anchor get random numbers, as in Fast3R's training.
        seed: Of all this.
    """

    views: int | None = None
    augment_views: bool = True
    mirror: bool = False
    colors: bool = False
    random_view_numbers: bool = True
    seed: int = 0


class DrawnSamples(Dataset[Batch | Distill3rError]):
    """The batch of a group of draws, for torch's loader.

    Args:
        source: Where samples are read.
        available: How many views each sample has, by its name.
        use: How they are drawn.
        size: Rows and columns of the student's input for landscape; None: as they are stored.
    """

    def __init__(
        self,
        source: Source,
        available: dict[str, int],
        use: Use,
        *,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.source, self.available, self.use, self.size = source, available, use, size

    def __getitem__(self, draws: Sequence[Draw]) -> Batch | Distill3rError:
        """One batch; an error is handed over whole, since a worker's would lose its hint."""
        try:
            return collate([self._draw(draw) for draw in draws])
        except Distill3rError as error:
            return error

    def _draw(self, draw: Draw) -> Batch:
        use, rng = self.use, rng_of(draw, seed=self.use.seed)
        views = augment.choose_views(
            self.available[draw.name], use.views, rng=rng if use.augment_views else None
        )
        stored = self.source.read(draw.name, views)
        images, targets = stored.images, stored.targets
        if self.size is not None:
            images, targets = resize_sample(images, targets, self.size)
        if views[0] != 0:
            targets = augment.anchor_first(targets)
        if use.mirror and rng.random() < 0.5:
            images, targets = augment.mirror_images(images), augment.mirror_targets(targets)
        colors = augment.draw_colors(len(views), rng) if use.colors else None
        numbers = sequential_view_numbers(1, len(views))
        if use.random_view_numbers:
            generator = torch.Generator().manual_seed(int(rng.integers(_SEEDS)))
            numbers = random_view_numbers(1, len(views), generator)
        return Batch(
            images=images[None],
            targets=map_targets(targets, lambda values: values[None]),
            view_numbers=numbers,
            colors=None if colors is None else torch.from_numpy(colors)[None],
            draws=(draw,),
        )


def resize_sample(
    images: Tensor, targets: TeacherTargets, size: tuple[int, int]
) -> tuple[Tensor, TeacherTargets]:
    """A stored sample at a smaller size: targets nearest, pictures by the chain's plain resize.

    Where K is known, the depth is put on the rays of the new pixels, as when the cache was made:
    a nearest point lies on the ray of another pixel, up to half a stored pixel away.

    Args:
        images: (N, 3, H, W) uint8.
        targets: Of the same size.
        size: Rows and columns for landscape; a portrait sample gets them swapped.
    """
    height, width = images.shape[-2:]
    size = oriented(size, portrait=height > width)
    if (height, width) == size:
        return images, targets
    pictures = [resize_picture(picture, size) for picture in images.movedim(1, -1).numpy()]
    resized = torch.from_numpy(np.stack(pictures)).movedim(-1, 1).contiguous()

    def nearest(maps: Tensor) -> Tensor:  # (N, H, W, ...): all views at once, as channels
        stacked = maps.movedim(0, 2)  # (H, W, N, ...)
        return resample_nearest(stacked, whole(stacked), size).movedim(2, 0).contiguous()

    stored, intrinsics = targets.stored_points_global, targets.intrinsics
    points, valid_mask = nearest(targets.points_local), nearest(targets.valid_mask)
    if intrinsics is not None:
        box = (0.0, 0.0, float(width), float(height))
        intrinsics = place_intrinsics(intrinsics, Placement(box, size))
        points = torch.where(valid_mask[..., None], unproject(points[..., 2], intrinsics), 0.0)
    return resized, replace(
        targets,
        points_local=points,
        confidence_local=nearest(targets.confidence_local),
        confidence_global=nearest(targets.confidence_global),
        valid_mask=valid_mask,
        stored_points_global=None if stored is None else nearest(stored),
        intrinsics=intrinsics,
    )


@dataclass(frozen=True)
class HeldSample:
    """A sample in memory."""

    images: Tensor
    targets: TeacherTargets


class Held:
    """Samples that were read, and resized, once and stay in memory, number for number.

    Args:
        source: Where they come from.
        names: Which.
        size: The student's, for landscape; None: as they are stored.
    """

    def __init__(
        self, source: Source, names: Iterable[str], *, size: tuple[int, int] | None = None
    ) -> None:
        self._samples: dict[str, HeldSample] = {}
        for name in names:
            stored = source.read(name)
            images, targets = stored.images, stored.targets
            if size is not None:
                images, targets = resize_sample(images, targets, size)
            self._samples[name] = HeldSample(images, targets)

    def read(self, name: str, views: Sequence[int] | None = None) -> HeldSample:
        """Some views of a sample, in that order; None: all of them."""
        held = self._samples[name]
        if views is None:
            return held
        chosen = torch.tensor(views)
        targets = map_targets(held.targets, lambda maps: maps[chosen])
        return HeldSample(held.images[chosen], targets)
