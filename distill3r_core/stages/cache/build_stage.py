"""A teacher's answers for every sample of a manifest, stored once and for all."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from distill3r_core import config, paths, plugins, profiling
from distill3r_core.cache.header import (
    HEADER,
    CacheHeader,
    compare_settings,
    joint_confidence,
    read_header,
    refuse_foreign,
)
from distill3r_core.cache.header_copies import update_plan
from distill3r_core.cache.shard import PREFIX
from distill3r_core.cache.store import CacheWriter
from distill3r_core.data.cached_size import DEFAULT_SIZE
from distill3r_core.data.frame_processing import recorded_processing
from distill3r_core.data.manifest import Manifest, ManifestRow, read_manifest
from distill3r_core.data.manifest_checksum import manifest_warning
from distill3r_core.errors import (
    ConfigError,
    ConflictError,
    InputMissingError,
    NothingUsableError,
    OutOfMemoryError,
)
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models.families import family_of, preset_spec, size_of_some_student
from distill3r_core.profiling import DeviceName
from distill3r_core.report import Progress, Report, Silent, counted, duration
from distill3r_core.stages.cache.cache_report import (
    CacheJob,
    check_room,
    dry_run_report,
    features_bytes,
    figures,
    finished_report,
    gigabytes,
)
from distill3r_core.stages.cache.sample_pipeline import CacheTally, make_samples
from distill3r_core.stages.cache.sample_plan import finished_names, plan_samples, share_of
from distill3r_core.stages.cache.writers import device_of, gather, part_of, together
from distill3r_core.teachers import TEACHERS, Teacher, TeacherRecord, build_teacher, choose_teacher
from distill3r_core.teachers.base import FeatureTeacher
from distill3r_core.teachers.choice import TeacherChoice, TeacherSetting
from distill3r_core.teachers.registry import AUTO, AUTOMATIC, find_weights
from distill3r_core.teachers.targets import GlobalMap, Resample, ThresholdOn

_PRESET = "paper"  # whose size is the default, and whose patches "auto" counts
_BASE_SIZE = "x".join(map(str, DEFAULT_SIZE))


def _check_size(text: str) -> None:
    if text != "auto":
        size_of_some_student(config.parse_size(text))


@dataclass(frozen=True, config=config.STRICT)
class ExportSettings:
    """How raw maps become targets; see `teachers.targets`."""

    resample: Resample | None = None  # None: "release" with `fit: release`, else "edges"
    threshold_on: ThresholdOn = "excess"
    global_map: GlobalMap = "aligned"


@dataclass(frozen=True, config=config.STRICT)
class CacheSettings:
    """Settings of `distill3r cache`."""

    manifest: Path = paths.MANIFEST
    output: Path = paths.CACHE
    teacher: TeacherSetting = TeacherChoice()  # a name, with or without settings of its own
    pairs: bool = False  # each pair of a pairwise teacher is a sample of its own
    weights: Path | None = None  # None: where `models download` puts them
    size: Annotated[str, config.LOWER, config.reads(_check_size)] = (
        _BASE_SIZE  # rows x columns of landscape samples, or "auto": by their shape
    )
    fit: Literal["squash", "crop", "release"] = "squash"
    # On C - 1; None: the teacher's own.
    threshold: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    exact_global: bool = False  # the float16 global map bit for bit, for 13 % more bytes
    views: int = Field(default=20, ge=2)  # per sample, for manifests without windows of their own
    device: DeviceName = "auto"
    # Seed of what a teacher draws: view embeddings, the synthetic teacher's scenes.
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=2, ge=1)  # threads that read images
    # Layers of the teacher whose features are stored beside the maps, as enc_norm of mast3r.
    features: Annotated[tuple[str, ...], BeforeValidator(config.read_names)] = ()
    export: ExportSettings = ExportSettings()


def build_cache(
    settings: CacheSettings,
    *,
    resume: bool = False,
    dry_run: bool = False,
    shard: str | None = None,
    progress: Progress = Silent(),
) -> Report:
    """Ask a teacher about every sample of a manifest, and store what it says.

    Args:
        settings: See `CacheSettings`.
        resume: Continue a cache that is there; start one where there is none.
        dry_run: Say what would be done, and create nothing.
        shard: "i/n": make the i-th of n parts, into a shard of its own.
        progress: Where to report to.

    Raises:
        InputMissingError: No manifest, or images lack what the teacher needs.
        WeightsError: The teacher's weights are missing.
        ConflictError: A cache is there that was made with other settings, or is half done, or
            the folder holds something else.
        DiskFullError: There is not enough room.
        NothingUsableError: Every sample was left out.
    """
    part = part_of(shard)
    manifest = read_manifest(settings.manifest)
    if warning := manifest_warning(settings.manifest):
        progress.note(warning)
    choice = settings.teacher
    record = _automatic(manifest) if choice.name == AUTO else TEACHERS[choice.name]
    if settings.pairs:
        _require_pairs(record)
    find_weights(record, settings.weights)
    _require_columns(record, manifest)
    teacher = _build(record, settings)
    header = _header(settings, record, teacher, manifest)
    refuse_foreign(settings.output)  # before images are looked at
    if (settings.output / HEADER).exists():
        there = read_header(settings.output)
        compare_settings(settings.output, there, header)
        header = replace(header, confidence=joint_confidence(there, header))
    plan = plan_samples(manifest, views=settings.views, teacher=teacher.settings, progress=progress)
    header = replace(header, plan=plan.planned)
    finished = finished_names(settings.output, header)
    own = share_of([s.name for s in plan.planned], index=part.index, count=part.count)
    refused = {failure.item for failure in plan.failed}
    todo = [plan.samples[key] for key in own if key not in finished and key not in refused]
    job = CacheJob(
        settings=config.as_plain(settings),
        folder=settings.output,
        manifest=manifest,
        teacher=teacher,
        record=record,
        plan=plan,
        header=header,
        part=part,
        own=frozenset(own),
        todo=todo,
        finished=frozenset(finished),
        workers=settings.workers,
    )
    if dry_run:
        return dry_run_report(job, progress)
    _refuse_half_done(job, resume=resume)
    # Before anything can go wrong: what is no longer planned must not be trained on.
    change = _update_plan(job)
    if change is not None:
        progress.note(change)
    # With several ranks none leaves early: the others would wait for it in the end.
    if len(finished) == len(plan.planned) and part.ranks == 1:
        return finished_report(job, CacheTally(), [], before=True, plan_changed=change is not None)
    check_room(job)
    with together(part):
        return _run(job, progress)


def _run(job: CacheJob, progress: Progress) -> Report:
    """Make what is to be made, and tell about it."""
    part = job.part
    if job.record.simulated:
        progress.note(
            f"teacher {job.record.name!r}: a dry run on made-up scenes, not your pictures"
        )
    minutes = job.record.needs.minutes_per_sample
    if minutes is not None:
        total = duration(60 * minutes * len(job.todo))
        progress.note(
            f"teacher {job.record.name!r}: about {duration(60 * minutes)} a sample, {total} in all"
        )
    if job.header.features:
        size = gigabytes(features_bytes(job, job.todo))
        progress.note(f"features of {', '.join(job.header.features)}: at most {size} more")
    with CacheWriter(job.folder, job.header, shard=part.index) as writer:
        which = f" ({part.index} of {part.count})" if part.count > 1 else ""
        progress.begin("asking the teacher" + which, total=len(job.todo), unit="samples")
        tally, failed = make_samples(
            job.todo,
            job.teacher,
            job.recipe,
            writer,
            contents=job.contents,
            workers=job.workers,
            layers=tuple(job.header.features),
            advance=lambda so_far: progress.advance(1, **figures(so_far, job.folder)),
        )
    refused = [failure for failure in job.plan.failed if failure.item in job.own]
    shares = gather(part, (tally, [*refused, *failed]))
    total = CacheTally.of_all([one for one, _ in shares])
    left_out = [failure for _, some in shares for failure in some]
    if left_out and not total.samples and not job.finished:  # a share may be empty
        first = left_out[0]
        message = (
            f"all {len(left_out)} samples were left out; the first: {first.item}: {first.reason}"
        )
        if total.too_large == len(left_out):
            raise OutOfMemoryError(
                message, hint="`distill3r manifest ... --views N` with a smaller N"
            )
        raise NothingUsableError(message, hint="look at the pictures, and run `distill3r manifest`")
    return finished_report(job, total, left_out)


def _build(record: TeacherRecord, settings: CacheSettings) -> Teacher:
    """The teacher with its own settings.

    Raises:
        ConfigError: It does not give the features that are asked for.
    """
    own = dict(settings.teacher.settings)
    if settings.seed and record.seeded:
        own["seed"] = settings.seed
    if settings.pairs:
        own["pairs"] = True
    device = profiling.pick_device(device_of(settings.device))
    teacher = build_teacher(record, settings.weights, device=device, **own)
    known = teacher.feature_channels if isinstance(teacher, FeatureTeacher) else {}
    for layer in settings.features:
        if layer not in known:
            raise ConfigError(
                f"--features: the teacher {teacher.name!r} gives no features of a layer {layer!r}",
                hint=f"its layers: {', '.join(known)}"
                if known
                else "the teachers mast3r and dust3r-..., and pair students, give enc_norm",
            )
    return teacher


def _automatic(manifest: Manifest) -> TeacherRecord:
    """The teacher that `auto` stands for.

    Raises:
        InputMissingError: Nothing but the poses of whole scenes is missing for exact targets:
            whether they are estimated, or done without, is for the user to say.
    """
    chosen, unposed = choose_teacher(manifest.rows), manifest.unposed_scenes
    for record in AUTOMATIC:
        if record is chosen or not unposed:
            break
        if not any(
            record.needs.lacking(row, unposed=(row.dataset, row.scene_id) in unposed)
            for row in manifest.rows
        ):
            raise InputMissingError(
                f"{len(unposed)} scenes of {manifest.path} have depth and no poses, and the "
                "teacher 'auto' does not choose between two ways",
                hint="estimate the poses with `distill3r manifest ... --poses colmap`, or name "
                f"the teacher: --teacher {record.name} makes samples of local maps only",
            )
    return chosen


def _require_pairs(record: TeacherRecord) -> None:
    """Refuse `--pairs` for a teacher that sees all views of a sample at once."""
    if not record.needs.pairs:
        able = [name for name in TEACHERS if TEACHERS[name].needs.pairs]
        raise ConfigError(
            f"--pairs: the teacher {record.name!r} sees all views of a sample at once; it "
            "predicts no pairs",
            hint=f"teachers that do: {', '.join(able)}; for samples of two views of any teacher, "
            "`distill3r manifest ... --views 2`",
        )


def _require_columns(record: TeacherRecord, manifest: Manifest) -> None:
    """Refuse a manifest that lacks what the teacher needs, before anything is created."""
    unposed = manifest.unposed_scenes

    def lacking(row: ManifestRow) -> tuple[str, ...]:
        return record.needs.lacking(row, unposed=(row.dataset, row.scene_id) in unposed)

    without = [row for row in manifest.rows if lacking(row)]
    if not without:
        return
    scenes, poor = (
        {(row.dataset, row.scene_id) for row in rows} for rows in (manifest.rows, without)
    )
    hint = "use a teacher that needs no more than the manifest has: "
    hint += f"--teacher {choose_teacher(manifest.rows).name}"
    if len(poor) < len(scenes):
        hint += f"; or leave {counted(len(poor), 'scene', of=len(scenes))} out of the manifest"
        hint += f" (first: {'/'.join(min(poor))})"
    raise InputMissingError(
        f"the teacher {record.name!r} needs {' and '.join(lacking(without[0]))} of every image, "
        f"and {manifest.path} has none for {without[0].image_path}",
        hint=hint,
    )


def _header(
    settings: CacheSettings, record: TeacherRecord, teacher: Teacher, manifest: Manifest
) -> CacheHeader:
    """The header of the cache that is to be, without its plan."""
    automatic = settings.size == "auto"
    rows, columns = (int(n) for n in (_BASE_SIZE if automatic else settings.size).split("x"))
    spec = preset_spec(_PRESET)
    fit = ImageFit(
        size=(rows, columns),
        mode=settings.fit,
        teacher=teacher.fit,
        patch=family_of(spec).multiple(spec) if automatic else None,
    )
    export = config.as_plain(settings.export)
    if export["resample"] is None:
        export["resample"] = "release" if settings.fit == "release" else "edges"
    threshold = teacher.threshold if settings.threshold is None else settings.threshold
    # Depth in no known unit makes points in none; so do poses, where a setting alone is metric.
    by_poses = teacher.metric and not (record.metric or record.given_weights)
    unknown = any(
        row.unit == "none" and (row.depth_path or (by_poses and row.pose)) for row in manifest.rows
    )
    channels = {}
    if settings.features:
        assert isinstance(teacher, FeatureTeacher), "checked before"
        channels = {layer: teacher.feature_channels[layer] for layer in settings.features}
    return CacheHeader(
        teacher=teacher.name,
        license=", ".join(teacher.licenses),
        weights_hash=teacher.weights_hash,
        size="auto" if automatic else fit.size,
        fit=fit.as_plain(),
        threshold=threshold,
        metric=teacher.metric and not unknown,
        teacher_settings=dict(teacher.settings),
        export=export,
        views=None if manifest.has_windows else settings.views,
        codec="exact" if settings.exact_global else "similarity",
        plugins=plugins.hashes(),
        confidence=record.confidence,
        processing=recorded_processing(manifest.root),
        features=channels,
    )


def _update_plan(job: CacheJob) -> str | None:
    """Bring the plan of a cache that is there up to date; what has changed in it."""
    if not (job.folder / HEADER).exists():
        return None
    there = read_header(job.folder)
    if there == job.header:
        return None
    update_plan(job.folder, job.header)
    before = {sample.name: sample for sample in there.plan}
    now = {sample.name: sample for sample in job.header.plan}
    both = before.keys() & now.keys()
    counts = {
        "new": len(now.keys() - before.keys()),
        "no longer planned": len(before.keys() - now.keys()),
        "of other content": sum(before[name].content != now[name].content for name in both),
        "in the other split": sum(before[name].split != now[name].split for name in both),
    }
    shown = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"the plan follows the manifest: {shown or 'samples in another order'}"


def _refuse_half_done(job: CacheJob, *, resume: bool) -> None:
    """Refuse to continue an unfinished cache without `--resume`.

    Raises:
        ConflictError: Something is there, and `--resume` was not given.
    """
    folder = job.folder
    theirs = job.part.count > 1  # other writers may have begun before this one
    begun = (folder / f"{PREFIX}{job.part.index:04d}") if theirs else folder / HEADER
    if len(job.finished) != len(job.plan.planned) and not resume and begun.exists():
        raise ConflictError(
            f"{folder} has {len(job.finished)} of {len(job.plan.planned)} samples",
            hint=f"resume with `distill3r cache --resume -o {folder}`, or choose another folder",
        )
