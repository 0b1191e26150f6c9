"""Rooms for the pair study, and what the teacher says of their pairs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill3r_core.benchmarks.ablation.rendered_rooms import THRESHOLD, TrueScene, true_scene
from distill3r_core.data.loading.augment import anchor_first, unit_images
from distill3r_core.data.loading.batches import Batch, Draw, join_targets, map_targets, step_draws
from distill3r_core.data.loading.sample_requests import DrawSettings, request_of
from distill3r_core.losses.feature_similarity import TEACHER_LAYER
from distill3r_core.models.pairs.student import PairStudent
from distill3r_core.types import PointMaps, TeacherTargets

FIRST_ROOM = 2000  # seed of the first room
_PATCH = 16


@dataclass(frozen=True)
class PairRooms:
    """Rooms with exact targets; every so many frames are held out."""

    scenes: Sequence[TrueScene]
    every: int

    @classmethod
    def rendered(cls, rooms: int, frames: int, size: tuple[int, int], *, every: int) -> "PairRooms":
        """Render rooms from their seeds."""
        seeds = range(FIRST_ROOM, FIRST_ROOM + rooms)
        return cls([true_scene(seed, frames, size) for seed in seeds], every)

    def batches(self, steps: int, *, size: int, seed: int, share: float = 1.0) -> Iterator[Batch]:
        """Batches of random pairs of training frames with exact targets, as the seed draws them.

        Args:
            share: Share of the pixels of a frame that are valid. A frame has the same ones
                whenever it is drawn, as with `data.sparse`.
        """
        names = [f"room-{number}" for number in range(len(self.scenes))]
        settings = DrawSettings(views=2, seed=seed, random_view_numbers=False)
        for draws in islice(step_draws({"all": names}, size=size, seed=seed), steps):
            yield self._batch(draws, settings, share)

    def held_out(self) -> Iterator[tuple[Float[Tensor, "1 2 3 H W"], TeacherTargets]]:
        """Pairs of neighboring held-out frames of each room, images in [0, 1]."""
        for scene in self.scenes:
            frames = [frame for frame in range(len(scene.images)) if frame % self.every == 0]
            for pair in zip(frames[:-1:2], frames[1::2], strict=False):
                targets = anchor_first(_chosen(scene.targets, pair))
                images = unit_images(scene.images[list(pair)])[None]
                yield images, map_targets(targets, lambda values: values[None])

    def _batch(self, draws: Sequence[Draw], settings: DrawSettings, share: float) -> Batch:
        samples = [self._sample(draw, settings, share) for draw in draws]
        images, targets = zip(*samples, strict=True)
        return Batch(
            images=torch.stack(images),
            targets=join_targets(targets, lambda maps: torch.stack(tuple(maps))),
            view_numbers=torch.arange(2).expand(len(draws), 2),
            colors=None,
            draws=tuple(draws),
        )

    def _sample(
        self, draw: Draw, settings: DrawSettings, share: float
    ) -> tuple[Tensor, TeacherTargets]:
        room = int(draw.name.rpartition("-")[2])
        scene = self.scenes[room]
        training = [frame for frame in range(len(scene.images)) if frame % self.every]
        request = request_of(draw, available=len(training), settings=settings)
        frames = [training[view] for view in request.views]
        exact = _chosen(scene.targets, frames)
        if share < 1:
            height, width = exact.valid_mask.shape[1:]
            kept = [
                _kept_pixels(height, width, share, seeds=(settings.seed, room, frame))
                for frame in frames
            ]
            exact = replace(exact, valid_mask=exact.valid_mask & torch.stack(kept))
        return scene.images[frames], anchor_first(exact)


@dataclass(frozen=True)
class PairTeacher:
    """The trained teacher: its maps as targets, and its encoder's tokens as features."""

    network: PairStudent

    def targets(self, batch: Batch) -> Batch:
        """The batch with what the teacher says of its pairs, above the threshold of networks."""
        images = unit_images(batch.images)
        with torch.no_grad():
            maps = self.network(images)
        assert isinstance(maps, PointMaps)
        global_map, local_map = maps.both
        identity = torch.eye(3, 4).expand(*batch.images.shape[:2], 3, 4)
        targets = TeacherTargets(
            points_local=local_map.points,
            confidence_local=local_map.confidence,
            confidence_global=global_map.confidence,
            valid_mask=local_map.confidence - 1 > THRESHOLD,
            global_from_local=identity,
            stored_points_global=global_map.points,
        )
        return replace(batch, targets=targets)

    def features(self, batch: Batch) -> Mapping[str, Float[Tensor, "B N h w C"]]:
        """See `FeatureSource`."""
        images = unit_images(batch.images)
        rows, columns = (side // _PATCH for side in images.shape[-2:])
        tokens = self.network.image_features(images.flatten(0, 1))
        grid = tokens.unflatten(1, (rows, columns)).unflatten(0, images.shape[:2])
        return {TEACHER_LAYER: grid}

    def channels(self) -> dict[str, int]:
        """See `FeatureSource`."""
        return {TEACHER_LAYER: self.network.spec.encoder.width}


def _kept_pixels(
    height: int, width: int, share: float, *, seeds: tuple[int, ...]
) -> Bool[Tensor, "{height} {width}"]:
    """A share of the pixels, as the seeds choose them."""
    pixels = height * width
    chosen = np.random.default_rng(seeds).choice(pixels, round(share * pixels), replace=False)
    kept = torch.zeros(pixels, dtype=torch.bool)
    kept[torch.from_numpy(chosen)] = True
    return kept.view(height, width)


def _chosen(targets: TeacherTargets, views: Sequence[int]) -> TeacherTargets:
    chosen = torch.tensor(list(views))
    return map_targets(targets, lambda maps: maps[chosen])
