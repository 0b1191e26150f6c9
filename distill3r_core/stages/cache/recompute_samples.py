"""Compute stored samples again with their teacher, and compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill3r_core import profiling
from distill3r_core.cache.header import CacheHeader
from distill3r_core.cache.sample_codec import SampleEncoder
from distill3r_core.cache.store import TeacherCache, unpacked
from distill3r_core.cache.target_difference import TargetDifference, compare_targets
from distill3r_core.data.manifest import Manifest, Sample, read_manifest
from distill3r_core.errors import ConflictError, InputMissingError
from distill3r_core.report import Progress
from distill3r_core.stages.cache.sample_pipeline import CacheTally, predict_sample
from distill3r_core.stages.cache.sample_plan import in_pairs
from distill3r_core.stages.cache.sample_targets import TargetRecipe, load_sample, targets_of_sample
from distill3r_core.system.interrupts import defer_signals
from distill3r_core.system.threads import Pool
from distill3r_core.teachers import Teacher, build_teacher


@dataclass(frozen=True)
class RebuiltTeacher:
    """The teacher of a cache, built again, and the samples that it can compute."""

    teacher: Teacher
    manifest: Manifest
    samples: Mapping[str, Sample]  # by name, cut as the cache's were


def samples_of(manifest: Manifest, header: CacheHeader) -> dict[str, Sample]:
    """The samples of a manifest by name, in the windows that the cache was made of."""
    found = manifest.samples() if header.views is None else manifest.samples(views=header.views)
    return {sample.name: sample for sample in in_pairs(found, header.teacher_settings)}


def rebuild_teacher(
    cache: TeacherCache, manifest: Path, *, weights: Path | None, device: str
) -> RebuiltTeacher:
    """Build the teacher of a cache again.

    Raises:
        InputMissingError: No manifest, or one of other samples.
        WeightsError: The teacher's weights are missing.
        ConflictError: They are not those that the cache was made with.
    """
    header, rows = cache.header, read_manifest(manifest)
    samples = samples_of(rows, header)
    if header.plan and not any(planned.name in samples for planned in header.plan):
        raise InputMissingError(
            f"{manifest} has none of the samples of {cache.path}",
            hint="name the manifest that the cache was made of with --manifest",
        )
    teacher = build_teacher(
        header.teacher, weights, device=profiling.pick_device(device), **header.teacher_settings
    )
    if teacher.weights_hash != header.weights_hash:
        raise ConflictError(
            f"{cache.path} was made with weights {header.weights_hash}, "
            f"these are {teacher.weights_hash}",
            hint="name the right ones with --weights",
        )
    return RebuiltTeacher(teacher, rows, samples)


def recompute(
    cache: TeacherCache, rebuilt: RebuiltTeacher, names: Sequence[str], progress: Progress
) -> dict[str, TargetDifference]:
    """Compute samples again, and compare each with what is stored.

    Raises:
        OutOfMemoryError: One of them does not fit.
    """
    header, teacher = cache.header, rebuilt.teacher
    recipe = TargetRecipe.of_cache(header, rebuilt.manifest.root)
    level = header.threshold
    if level is not None:
        level += header.export.get("threshold_on", "excess") == "excess"
    encoder = SampleEncoder(exact_global=header.codec == "exact")
    found: dict[str, TargetDifference] = {}
    progress.begin("computing again", total=len(names), unit="samples")
    with Pool(1) as pool:
        for name in names:
            with defer_signals():
                loaded = load_sample(rebuilt.samples[name], teacher, recipe, pool)
            again = targets_of_sample(
                loaded, predict_sample(teacher, loaded, CacheTally()), recipe
            ).targets
            encoded = encoder.encode(name, "", loaded.images, again, {})
            found[name] = compare_targets(cache.read(name).targets, unpacked(encoded), level=level)
            progress.advance(1, equal=f"{found[name].equal:.2%}")
    return found
