"""The labels of a scene student: every sample of a scene in one frame, centered and scaled."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill3r_core.cache.maps.maps_layout import Kind
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.sample_sources import read_at
from distill3r_core.data.loading.world_points import points_in_world, world_from_anchor
from distill3r_core.errors import CacheError, ConfigError, NothingUsableError
from distill3r_core.geometry.similarity import compose
from distill3r_core.models.scene.frames import network_from_scene
from distill3r_core.models.scene.spec import SceneFrame

_LISTED = 12  # scenes in a message


@dataclass(frozen=True)
class SceneLabels:
    """The scenes of a run.

    Args:
        frames: How each is centered and scaled.
        transforms: `[sR | t]` that carries the frame of a sample's cached anchor into the
            network's, by sample; samples of other scenes are not in it.
        left_out: Held-out samples that have no place in the frame of their scene.
    """

    frames: tuple[SceneFrame, ...]
    transforms: Mapping[str, Float[np.ndarray, "3 4"]]
    left_out: tuple[str, ...] = ()


def scene_labels(
    cache: CacheUnion, wanted: Sequence[str], *, size: tuple[int, int] | None
) -> SceneLabels:
    """The frames of the scenes that a run learns, from the poses of their samples.

    Args:
        wanted: Names of scenes, see `samples_of_scenes`; empty: the only one there is.
        size: Size of the student's input, landscape; None: that of the cache.

    Raises:
        ConfigError: No or several scenes fit a name.
        CacheError: Samples of a scene cannot be brought into one frame.
        NothingUsableError: A scene has no training sample, or no valid pixel.
    """
    worlds: list[dict[str, Tensor]] = []
    frames: list[SceneFrame] = []
    left_out: list[str] = []
    for name, samples in samples_of_scenes(cache, wanted).items():
        found = _worlds(cache, name, samples)
        left_out += [sample for sample in samples if sample not in found]
        worlds.append(found)
        frames.append(_frame(cache, name, found, size=size))
    transforms = {
        sample: compose(network_from_scene(frames, place), world).numpy()
        for place, found in enumerate(worlds)
        for sample, world in found.items()
    }
    return SceneLabels(tuple(frames), transforms, tuple(left_out))


def samples_of_scenes(cache: CacheUnion, wanted: Sequence[str]) -> dict[str, list[str]]:
    """Samples by scene.

    Args:
        wanted: Names of scenes, with or without their data set. The first part of a name stands
            for all sequences below it, which have to share a world. Empty: the only scene.

    Raises:
        ConfigError: No scene fits a name, or none is named and there are several.
    """
    scenes: dict[str, list[str]] = {}
    for sample in cache.names():
        scenes.setdefault(_scene_of(cache, sample), []).append(sample)
    if not wanted:
        if len(scenes) == 1:
            return scenes
        raise ConfigError(
            f"a student of this family learns one scene, and there are {len(scenes)}: "
            f"{_listed(scenes)}",
            hint="choose one with --scene NAME; several --scene train one student for all of them",
        )
    found: dict[str, list[str]] = {}
    for name in wanted:
        parts = tuple(name.strip("/").split("/"))
        fitting = [
            scene
            for scene in scenes
            if parts
            in (tuple(scene.split("/"))[: len(parts)], tuple(scene.split("/"))[1:][: len(parts)])
        ]
        if not fitting:
            raise ConfigError(f"--scene {name}: there are {_listed(scenes)}")
        found[name] = [sample for scene in fitting for sample in scenes[scene]]
    counts = Counter(sample for samples in found.values() for sample in samples)
    twice = [sample for sample, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(f"--scene: the sample {twice[0]} belongs to several of {_listed(found)}")
    return found


def _scene_of(cache: CacheUnion, sample: str) -> str:
    """`<dataset>/<scene>` of a sample."""
    detail = cache.detail(sample)
    if detail.get("dataset") is not None and detail.get("scene_id") is not None:
        return f"{detail['dataset']}/{detail['scene_id']}"
    return cache.place(sample)[1].rpartition("/")[0]


def _listed(scenes: Mapping[str, object]) -> str:
    names = list(scenes)
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _worlds(cache: CacheUnion, scene: str, samples: Sequence[str]) -> dict[str, Tensor]:
    """What carries each sample's anchor into the scene, in float64.

    Raises:
        CacheError: Some training samples have no place in the world, and there are several, or
            the views of the only one share no frame.
        NothingUsableError: There is no training sample.
    """
    mine = set(samples)
    trained = [name for name in cache.names("train") if name in mine]
    if not trained:
        raise NothingUsableError(f"the scene {scene} has no training sample")
    stored = {name: world_from_anchor(cache, name) for name in samples}
    missing = [name for name in trained if stored[name] is None]
    if not missing:
        return {name: world for name, world in stored.items() if world is not None}
    if len(trained) > 1:
        raise CacheError(
            f"{len(missing)} of {len(trained)} samples of the scene {scene} have no place in a "
            f"common frame (first: {missing[0]})",
            hint="with poses, make the cache again with this version; without, let one sample hold "
            "the scene: `distill3r manifest --views all --stride 1`",
        )
    if cache.entry(trained[0]).kind & Kind.LOCAL_ONLY:
        raise CacheError(
            f"the sample {trained[0]} of the scene {scene} was cached without poses: its views "
            "have no common frame",
            hint="estimate poses and make the cache again: `distill3r manifest --poses colmap`",
        )
    return {trained[0]: torch.eye(3, 4, dtype=torch.float64)}


def _frame(
    cache: CacheUnion, scene: str, worlds: Mapping[str, Tensor], *, size: tuple[int, int] | None
) -> SceneFrame:
    """Mean and root mean square radius of the valid training points.

    Raises:
        NothingUsableError: There is none, or they lie at one place.
    """
    count, total, squares = 0, torch.zeros(3, dtype=torch.float64), 0.0
    metric = True
    trained = set(cache.names("train"))
    for name in filter(trained.__contains__, worlds):
        _, targets = read_at(cache, name, size=size)
        points = points_in_world(targets, worlds[name])[targets.valid_mask]
        count += len(points)
        total += points.sum(0)
        squares += float(points.square().sum())
        metric = metric and _is_metric(cache, name)
    if not count:
        raise NothingUsableError(f"the scene {scene} has no valid pixel")
    center = total / count
    variance = squares / count - float(center.square().sum())
    if not variance > 0:
        raise NothingUsableError(f"all points of the scene {scene} are at one place")
    x, y, z = center.tolist()
    posed = all(cache.detail(name).get("world_from_anchor") is not None for name in worlds)
    return SceneFrame(name=scene, center=(x, y, z), scale=variance**0.5, metric=metric, posed=posed)


def _is_metric(cache: CacheUnion, name: str) -> bool:
    """Whether the frame that a sample is carried into has meters."""
    detail = cache.detail(name)
    if detail.get("world_from_anchor") is None:
        return cache.place(name)[0].cache.header.metric
    return "none" not in detail.get("units", ["none"])
