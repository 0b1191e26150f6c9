"""Compare every stored byte with its checksum, and the targets with their teacher."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config, paths, profiling
from distill3r_core.cache.maps_layout import delivered_planes
from distill3r_core.cache.sample_codec import SampleEncoder, ViewDecoder
from distill3r_core.cache.shard import (
    DATA,
    Entry,
    ShardReader,
    ShardWriter,
    WriterLock,
    shard_folders,
)
from distill3r_core.cache.store import TeacherCache, ViewBuffers, unpacked
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.views import content_of
from distill3r_core.errors import ConflictError, DamageError, ImageError
from distill3r_core.io.fit import Fit
from distill3r_core.report import Failure, Progress, Report, Silent, Table
from distill3r_core.stages.cache.sample import Recipe, load_sample, make_targets
from distill3r_core.teachers import Teacher, build_teacher
from distill3r_core.types import TeacherTargets

_BROKEN = "broken-"


@checked_dataclass(frozen=True, config=config.STRICT)
class VerifySettings:
    """Settings of `distill3r cache verify`."""

    path: Path
    manifest: Path = paths.MANIFEST  # pictures are compared where it is there
    recompute: int = 0  # random samples to ask the teacher about again
    weights: Path | None = None
    repair: bool = False  # drop what is broken, so that `--resume` makes it again
    device: str = "auto"
    seed: int = 0  # of the choice of samples


@dataclass(frozen=True)
class _Damage:
    """One thing that is broken: a sample of a shard, or (without a name) the shard."""

    shard: Path
    name: str | None
    reason: str


def verify_cache(settings: VerifySettings, *, progress: Progress = Silent()) -> Report:
    """Check every record of every shard, and what the cache was made of.

    Args:
        settings: See `VerifySettings`.
        progress: Told of every sample.

    Returns:
        `result["ok"]` says whether all is well; after a repair, whether what is left is.

    Raises:
        InputMissingError: There is no cache.
        ConflictError: A repair is asked for while a shard is being written to.
    """
    cache = TeacherCache(settings.path)
    damage, samples, views = _check_shards(settings.path, progress)
    changed = _changed(cache, settings.manifest, damage, progress)
    if settings.repair:
        _repair(damage)
        cache.refresh()
    steps = _recompute(cache, settings, progress) if settings.recompute else []
    ok = (settings.repair or not damage) and not changed
    verdict = "sound" if ok else "damaged"
    result = {
        "ok": ok,
        "samples": samples,
        "views": views,
        "damaged": [_describe(one) for one in damage],
        "changed": [failure.item for failure in changed],
        "repaired": len(damage) if settings.repair else 0,
        "recomputed": [
            {"sample": name, "equal": equal, "largest_step": largest}
            for name, equal, largest in steps
        ],
    }
    rows = [
        ("samples", str(samples)),
        ("views", str(views)),
        ("damaged", str(len(damage))),
        ("pictures changed since", str(len(changed)) if settings.manifest.exists() else "-"),
    ]
    for name, equal, largest in steps:
        rows.append((f"asked again: {name}", f"{equal:.2%} equal, {largest} float16 steps at most"))
    notes = [_describe(one) for one in damage]
    notes += [f"{failure.item}: {failure.reason}" for failure in changed]
    if not settings.manifest.exists():
        notes.append(f"pictures were not compared: no {settings.manifest} (--manifest)")
    if damage:
        how = "dropped; make them again with" if settings.repair else "`verify --repair`, then"
        notes.append(f"{how} `distill3r cache --resume -o {settings.path}`")
    return Report(
        settings=config.as_plain(settings),
        result=result,
        tables=[Table(f"cache {settings.path}: {verdict}", ("", ""), tuple(rows))],
        notes=notes,
    )


def _check_shards(path: Path, progress: Progress) -> tuple[list[_Damage], int, int]:
    """What is broken, and how many samples and views were looked at."""
    damage: list[_Damage] = []
    listed: list[tuple[ShardReader, str, Entry]] = []
    for folder in shard_folders(path):
        try:
            shard = ShardReader(folder)
            sound, broken = shard.listing()
            listed += [(shard, name, entry) for name, entry in sound]
            damage += [_Damage(folder, name, reason) for name, reason in broken]
        except DamageError as error:
            damage.append(_Damage(folder, None, error.message))
    samples = len(listed) + sum(one.name is not None for one in damage)
    decoder, views = ViewDecoder(), 0
    progress.begin("comparing checksums", total=len(listed), unit="samples")
    for shard, name, entry in listed:
        views += entry.views
        try:
            _check_sample(shard, entry, decoder)
        except DamageError as error:
            damage.append(_Damage(shard.folder, name, error.message))
        progress.advance(1, damaged=str(len(damage)))
    return damage, samples, views


def _check_sample(shard: ShardReader, entry: Entry, decoder: ViewDecoder) -> None:
    buffers = ViewBuffers.allocate(1, delivered_planes(entry.kind), entry.size)
    with shard.records() as records:
        for view in range(entry.views):
            decoder.maps(
                records.maps(entry, view), buffers.planes[0], buffers.mask[0], thorough=True
            )
            decoder.picture(records.picture(entry, view), buffers.images[0], thorough=True)
    detail = shard.detail(entry)
    if len(detail["pictures"]) != entry.views:
        raise DamageError(f"its detail names {len(detail['pictures'])} pictures, not {entry.views}")


def _changed(
    cache: TeacherCache, manifest: Path, damage: Sequence[_Damage], progress: Progress
) -> list[Failure]:
    """Samples whose pictures, depth, K or poses are no longer what the teacher read."""
    if not manifest.exists():
        return []
    samples = {sample.name: sample for sample in read_manifest(manifest).samples()}
    known = [name for name in _names(cache, damage) if name in samples]
    changed: list[Failure] = []
    progress.begin("comparing pictures", total=len(known), unit="samples")
    for name in known:
        try:
            content = content_of(samples[name].rows, manifest.parent, compute=True)
            if content != cache.entry(name).content:
                changed.append(Failure(name, "its pictures, depth, K or poses have changed"))
        except ImageError as error:
            changed.append(Failure(name, error.message))
        progress.advance()
    return changed


def _repair(damage: Sequence[_Damage]) -> None:
    """Drop broken samples; move shards aside that cannot be opened.

    Raises:
        ConflictError: A shard is being written to.
    """
    for folder in {one.shard for one in damage if one.name is None}:
        lock = WriterLock(folder)
        try:
            number = 0
            while (aside := folder.with_name(f"{_BROKEN}{folder.name}-{number}")).exists():
                number += 1
            folder.rename(aside)
        finally:
            lock.release()
    for folder in {one.shard for one in damage if one.name is not None}:
        with ShardWriter(folder) as shard:
            for one in damage:
                if one.shard == folder and one.name is not None:
                    shard.drop(one.name)


def _recompute(
    cache: TeacherCache, settings: VerifySettings, progress: Progress
) -> list[tuple[str, float, int]]:
    """Ask the teacher again; per sample the share of equal values and the largest difference."""
    manifest = read_manifest(settings.manifest)
    samples = {sample.name: sample for sample in manifest.samples()}
    names = [name for name in cache.names() if name in samples]
    chosen = random.Random(settings.seed).sample(names, min(settings.recompute, len(names)))
    header = cache.header
    teacher = _teacher(cache, settings)
    recipe = Recipe(
        root=manifest.root,
        fit=Fit.from_plain(header.fit),
        automatic=header.size == "auto",
        threshold=header.threshold,
        export=header.export,
    )
    found = []
    progress.begin("asking the teacher again", total=len(chosen), unit="samples")
    encoder = SampleEncoder(exact_global=header.codec == "exact")
    with ThreadPoolExecutor(1) as pool:
        for name in chosen:
            loaded = load_sample(samples[name], teacher, recipe, pool)
            again = make_targets(loaded, teacher.predict(loaded.prepared), recipe).targets
            encoded = encoder.encode(name, "", loaded.images, again, {})
            equal, largest = step_difference(cache.read(name).targets, unpacked(encoded))
            found.append((name, equal, largest))
            progress.advance(1, equal=f"{equal:.2%}")
    return found


def step_difference(stored: TeacherTargets, again: TeacherTargets) -> tuple[float, int]:
    """The share of equal float16 values, and the largest difference in float16 steps.

    Values that are valid in one of the two only count as different.
    """
    both = (stored.valid_mask & again.valid_mask).numpy()
    either = (stored.valid_mask | again.valid_mask).numpy()
    steps = [
        np.abs(_ordered(one)[both] - _ordered(other)[both])
        for one, other in (
            (stored.points_local, again.points_local),
            (stored.points_global, again.points_global),
            (stored.confidence_local[..., None], again.confidence_local[..., None]),
            (stored.confidence_global[..., None], again.confidence_global[..., None]),
        )
    ]
    values = np.concatenate([part.ravel() for part in steps])
    total = 8 * int(either.sum())
    equal = float((values == 0).sum()) / total if total else 1.0
    return equal, int(values.max(initial=0))


def _ordered(values: torch.Tensor) -> np.ndarray:
    """Float16 numbered in their order: neighbours differ by one."""
    words = values.half().numpy().view(np.int16).astype(np.int32)
    return np.where(words < 0, -(words & 0x7FFF), words)


def _teacher(cache: TeacherCache, settings: VerifySettings) -> Teacher:
    header = cache.header
    device = profiling.pick_device(settings.device)
    teacher = build_teacher(
        header.teacher, settings.weights, device=device, **header.teacher_settings
    )
    if teacher.weights_hash != header.weights_hash:
        raise ConflictError(
            f"{cache.path} was made with weights {header.weights_hash}, "
            f"these are {teacher.weights_hash}",
            hint="name the right ones with --weights",
        )
    return teacher


def _names(cache: TeacherCache, damage: Sequence[_Damage]) -> list[str]:
    """Finished samples; none where a shard cannot be opened, which is damage enough."""
    if any(one.name is None for one in damage):
        return []
    return cache.names()


def _describe(damage: _Damage) -> str:
    where = str(damage.shard / DATA)
    if damage.name is None:
        return damage.reason
    name = damage.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return f"{where}: {name}: {damage.reason}"
