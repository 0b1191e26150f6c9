"""The scenes of a run whose student learns some."""

from dataclasses import replace

from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import ConfigError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.losses.terms import LOSS_TERMS
from distill3r_core.models.scene.spec import SceneSpec
from distill3r_core.models.spec import StudentSpec
from distill3r_core.models.student import Student
from distill3r_core.report import Progress
from distill3r_core.training.feed import SceneTransforms
from distill3r_core.training.scene_labels import scene_labels
from distill3r_core.training.settings import TrainSettings
from distill3r_core.types import Unit


def learn_scenes(
    settings: TrainSettings,
    cache: CacheUnion,
    student: Student,
    fit: ImageFit,
    progress: Progress,
) -> SceneTransforms:
    """Give a scene student the frames of its scenes; what carries samples into them.

    Raises:
        ConfigError: `--scene` names none, or is given for students that learn no scene; or
            images are to be mirrored, or a term reads local maps.
    """
    if not isinstance(student.spec, SceneSpec):
        if settings.scene:
            raise ConfigError(
                f"--scene {settings.scene[0]}: students of the family {student.spec.family!r} "
                "learn no scene",
                hint="leave it out, or take --preset scene-vit",
            )
        return {}
    if settings.data.mirror:
        raise ConfigError(
            "data.mirror: a scene student learns where the things of its scene are, and a mirrored "
            "image shows them elsewhere",
            hint="leave it out, or --set data.mirror=false",
        )
    terms = settings.loss.all_terms.items()
    if reading := [name for name, own in terms if own.weight and LOSS_TERMS[name].local]:
        raise ConfigError(
            f"loss: {reading[0]} reads local maps, which students of scenes have none of",
            hint="leave it out, or give it the weight 0",
        )
    labels = scene_labels(cache, settings.scene, size=fit.resized)
    student.spec = replace(student.spec, scenes=labels.frames)
    for frame in labels.frames:
        unit = " m" if frame.metric else ""
        progress.note(f"scene {frame.name}: root mean square radius {frame.scale:.4g}{unit}")
    if labels.left_out:
        progress.note(
            f"{len(labels.left_out)} held-out samples have no place in the scene's frame and are "
            "not validated"
        )
    return labels.transforms


def unit_of(settings: TrainSettings, spec: StudentSpec) -> Unit:
    """The unit of a student's points: that of its scenes, or meters where it was taught them."""
    if isinstance(spec, SceneSpec):
        known = bool(spec.scenes) and all(frame.metric for frame in spec.scenes)
        return "m" if known else "none"
    return "m" if settings.loss.metric else "none"
