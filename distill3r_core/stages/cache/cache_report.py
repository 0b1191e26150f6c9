"""What `cache` tells: before it starts, while it works and when it is done."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill3r_core.cache.header import CacheHeader
from distill3r_core.cache.maps.maps_layout import Kind
from distill3r_core.cache.sample_codec import EncodedSample, SampleEncoder
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.cached_size import bytes_per_pixel
from distill3r_core.data.manifest import Manifest, Sample
from distill3r_core.errors import DiskFullError
from distill3r_core.report import Failure, Progress, Report, Table, duration, gigabytes
from distill3r_core.stages.cache.sample_pipeline import CacheTally, make_samples
from distill3r_core.stages.cache.sample_plan import SamplePlan, fit_of, size_of
from distill3r_core.stages.cache.sample_targets import TargetRecipe
from distill3r_core.stages.cache.writers import WriterPart
from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.record import TeacherRecord

_REHEARSED = 2  # samples: the first one pays for whatever a teacher does once

_PATCH_AREA, _HALF = 16 * 16, 2  # pixels of a patch of the teachers that give features; bytes


@dataclass(frozen=True)
class CacheJob:
    """All that is known before the work begins.

    Args:
        settings: The resolved settings, as plain data.
        folder: Folder of the cache.
        manifest: Where samples come from.
        teacher: The teacher, ready to predict.
        record: What is known about it.
        plan: Every sample.
        header: Header of the cache.
        part: Which writer this is.
        own: Names of this writer's samples.
        todo: Those of them that are to be made.
        finished: Names of samples that are there, whoever made them.
        workers: Threads that read images.
    """

    settings: dict[str, Any]
    folder: Path
    manifest: Manifest
    teacher: Teacher
    record: TeacherRecord
    plan: SamplePlan
    header: CacheHeader
    part: WriterPart
    own: frozenset[str]
    todo: Sequence[Sample]
    finished: frozenset[str]
    workers: int

    @cached_property
    def recipe(self) -> TargetRecipe:
        """How samples become targets."""
        return TargetRecipe.of_cache(self.header, self.manifest.root)

    @cached_property
    def contents(self) -> dict[str, str]:
        """Hash of all that the teacher reads, by name."""
        return {sample.name: sample.content for sample in self.plan.planned}

    def pixels(self, samples: Sequence[Sample]) -> int:
        """Of targets, over all views of samples."""
        total = 0
        for sample in samples:
            fit = fit_of(self.recipe.fit, sample.rows)
            height, width = size_of(fit, sample.rows)
            total += len(sample.rows) * height * width
        return total


@dataclass
class _DiscardingSink:
    """Takes samples and keeps nothing."""

    exact: bool
    stored: list[int] = field(default_factory=list)

    def encoder(self) -> SampleEncoder:
        return SampleEncoder(exact_global=self.exact)

    def put(self, sample: EncodedSample) -> None:
        self.stored.append(sample.bytes)


def check_room(job: CacheJob) -> None:
    """Compare the room that is left with what will be needed.

    Raises:
        DiskFullError: It will not do.
    """
    needed, free = expected_bytes(job), free_bytes(job.folder)
    if needed > free:
        raise DiskFullError(
            f"{job.folder}: {len(job.todo)} samples need about {gigabytes(needed)}, "
            f"{gigabytes(free)} are free",
            hint="free some space, choose another disk with -o, or a smaller --size",
        )


def expected_bytes(job: CacheJob) -> int:
    """What the samples that are to be made will take, by those that are there, else by teacher."""
    rate = bytes_per_pixel(depth_maps=job.record.depth_maps)
    if job.finished:
        cache = TeacherCache(job.folder)
        entries = [cache.entry(name) for name in cache.names()[:100]]
        pixels = sum(entry.views * entry.size[0] * entry.size[1] for entry in entries)
        if pixels:
            rate = sum(e.maps_bytes + e.images_bytes for e in entries) / pixels
    return int(job.pixels(job.todo) * rate) + features_bytes(job, job.todo)


def features_bytes(job: CacheJob, samples: Sequence[Sample]) -> int:
    """What the teacher's features of samples take at most: float16, before they are packed."""
    patches = job.pixels(samples) / _PATCH_AREA
    return int(_HALF * patches * sum(job.header.features.values()))


def free_bytes(folder: Path) -> int:
    """Free space where a folder is or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def figures(tally: CacheTally, folder: Path) -> dict[str, float | str]:
    """What is shown while samples are made."""
    free = free_bytes(folder)
    seconds = tally.seconds or math.inf  # of the samples that are done; at first there is none
    rate = tally.bytes / seconds
    return {
        "views/s": tally.views / seconds,
        "teacher": f"{tally.teacher_seconds / seconds:.0%} of the time",
        "written": gigabytes(tally.bytes),
        "free": gigabytes(free),
        "full in": duration(free / rate) if rate else "-",
    }


def dry_run_report(job: CacheJob, progress: Progress) -> Report:
    """What would be done, how much room and how long it would take; nothing is stored."""
    sink = _DiscardingSink(exact=job.header.codec == "exact")
    some = job.todo[:_REHEARSED]
    progress.begin("trying the first samples", total=len(some), unit="samples")
    tally, failed = make_samples(
        some,
        job.teacher,
        job.recipe,
        sink,
        contents=job.contents,
        workers=job.workers,
        layers=tuple(job.header.features),
        advance=lambda _: progress.advance(),
    )
    pixels = job.pixels(job.todo)
    size = int(pixels * tally.bytes / tally.pixels) if tally.pixels else 0
    seconds = len(job.todo) * tally.seconds / tally.samples if tally.samples else 0.0
    views = sum(len(sample.rows) for sample in job.todo)
    result = {
        "planned": len(job.plan.planned),
        "finished": len(job.finished),
        "to_make": len(job.todo),
        "views": views,
        "expected_bytes": size,
        "expected_seconds": seconds,
        "free_bytes": free_bytes(job.folder),
        "teacher": job.teacher.name,
    }
    size_of_features = gigabytes(features_bytes(job, job.todo))
    features = [(f"of it features {layer}", size_of_features) for layer in job.header.features]
    rows = (
        ("teacher", f"{job.teacher.name} ({job.header.license})"),
        ("samples planned", str(len(job.plan.planned))),
        ("finished already", str(len(job.finished))),
        ("to make", f"{len(job.todo)} samples, {views} views"),
        ("size expected", gigabytes(size)),
        *features,
        ("free disk", gigabytes(free_bytes(job.folder))),
        ("time expected", duration(seconds)),
    )
    return Report(
        settings=job.settings,
        result=result,
        failed=[*job.plan.failed, *failed],
        tables=[Table(f"cache {job.folder}: what would be done", ("", ""), rows)],
        notes=["nothing was written (--dry-run)"],
    )


def finished_report(
    job: CacheJob,
    tally: CacheTally,
    failed: Sequence[Failure],
    *,
    before: bool = False,
    plan_changed: bool = False,
) -> Report:
    """What was done and what the cache holds now."""
    cache = TeacherCache(job.folder)
    names, missing = cache.names(), cache.missing()
    stored = [cache.entry(name) for name in names]
    maps, images = sum(e.maps_bytes for e in stored), sum(e.images_bytes for e in stored)
    seconds = tally.seconds
    result = {
        "planned": len(cache.header.plan),
        "finished": len(names),
        "made": tally.samples,
        "missing": missing,
        "bytes": maps + images,
        "maps_bytes": maps,
        "pictures_bytes": images,
        "seconds": seconds,
        "samples_per_second": tally.samples / max(seconds, 1e-9),
        "views_per_second": tally.views / max(seconds, 1e-9),
        "teacher_share": tally.teacher_seconds / max(seconds, 1e-9),
        "teacher": cache.header.teacher,
        "license": cache.header.license,
    }
    rows = [
        ("teacher", f"{cache.header.teacher} ({cache.header.license})"),
        ("samples", f"{len(names)} of {len(cache.header.plan)}"),
        ("size", gigabytes(maps + images)),
    ]
    if tally.samples:
        rows += [
            ("made now", f"{tally.samples} samples, {tally.views} views in {duration(seconds)}"),
            ("speed", f"{tally.views / max(seconds, 1e-9):.3g} views/s"),
            ("teacher's share of the time", f"{result['teacher_share']:.0%}"),
        ]
    if tally.aligned:
        residual = tally.residual / tally.aligned
        result["alignment"] = {"residual": residual, "unplaced": tally.unplaced}
        rows += [
            ("alignment: mean residual", f"{residual:.3g}"),
            ("views without a pose", str(tally.unplaced)),
        ]
    local_only = sum(bool(entry.kind & Kind.LOCAL_ONLY) for entry in stored)
    if local_only:
        result["local_only"] = local_only
        rows.append(("local maps only, without poses", f"{local_only} samples"))
    done = "only its plan was brought up to date" if plan_changed else "nothing was done"
    notes = [f"finished before: {done}"] if before else []
    if missing and job.part.count > 1:
        notes.append(f"{len(missing)} samples are left to other writers, or to --resume")
    return Report(
        settings=job.settings,
        result=result,
        files=[job.folder],
        failed=failed,
        tables=[Table(f"cache {job.folder}", ("", ""), tuple(rows))],
        notes=notes,
        finished_before=before,
    )
