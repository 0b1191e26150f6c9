"""Open the source of the teacher's features that a run learns from."""

import torch

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.data.loading.teacher_features import CachedFeatures, LiveFeatures
from distill3r_core.errors import ConfigError
from distill3r_core.report import Progress
from distill3r_core.teachers import build_teacher
from distill3r_core.teachers.base import FeatureTeacher
from distill3r_core.teachers.registry import TEACHERS
from distill3r_core.training.settings import TrainSettings


def open_features(
    settings: TrainSettings,
    cache: CacheUnion,
    layers: tuple[str, ...],
    device: torch.device,
    progress: Progress,
) -> tuple[CachedFeatures | LiveFeatures, tuple[str, ...]]:
    """The source of the layers that the objective reads, and licenses that it adds.

    Raises:
        CacheError: The caches do not have the layers, and no encoder is to run.
        ConfigError: Stored features and mirrored or enlarged images; or a teacher that gives no
            such features; or features are to be computed, and no teacher is known to compute them.
        WeightsError: The weights of the teacher whose encoder is to run are missing.
    """
    wanted = settings.features
    stored = all(layer in one.cache.header.features for one in cache.members for layer in layers)
    teachers = list(dict.fromkeys(one.cache.header.teacher for one in cache.members))
    name = wanted.teacher or teachers[0]
    able = name in TEACHERS and len(teachers if wanted.teacher is None else [name]) == 1
    if wanted.source == "live" and not able:
        named = f"of {', '.join(teachers)}, none is the one teacher whose encoder could run"
        if wanted.teacher is not None:
            named = f"there is no teacher {name!r}"
        raise ConfigError(
            f"features.source=live: {named}",
            hint="--set features.teacher=NAME, such as mast3r; or features.source=cached",
        )
    if wanted.source == "cached" or (stored and wanted.source == "auto") or not able:
        source = CachedFeatures(cache, layers)
        source.check(
            mirror=settings.data.mirror, crops=settings.data.crops, nearby=settings.data.nearby
        )
        return source, ()
    teacher = build_teacher(name, wanted.weights, device=device)
    known = teacher.feature_channels if isinstance(teacher, FeatureTeacher) else {}
    for layer in layers:
        if layer not in known:
            raise ConfigError(
                f"features: the teacher {name!r} gives no features of a layer {layer!r}",
                hint="--set features.teacher=mast3r, or leave the terms of features out",
            )
    assert isinstance(teacher, FeatureTeacher)
    progress.note(f"features of {', '.join(layers)}: the encoder of {name} runs while training")
    return LiveFeatures(teacher, layers), tuple(teacher.licenses)
