"""Compare every stored byte with its checksum, and the targets with their teacher."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic.dataclasses import dataclass as checked_dataclass

from distill3r_core import config, paths
from distill3r_core.cache.header import header_is_damaged, write_header
from distill3r_core.cache.header_copies import foreign_shard, rebuild_header
from distill3r_core.cache.header_record import CacheHeader, header_text
from distill3r_core.cache.maps.maps_layout import delivered_planes
from distill3r_core.cache.sample_codec import ViewDecoder
from distill3r_core.cache.shard import (
    DATA,
    Entry,
    ShardReader,
    ShardWriter,
    WriterLock,
    emptied_shards,
    shard_folders,
)
from distill3r_core.cache.store import TeacherCache, ViewBuffers
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.manifest_views import content_of
from distill3r_core.errors import (
    CacheError,
    ConflictError,
    DamageError,
    ImageError,
    InputMissingError,
)
from distill3r_core.report import Failure, Progress, Report, Silent, Table
from distill3r_core.stages.cache.recompute_samples import (
    TargetDifference,
    rebuild_teacher,
    recompute,
    samples_of,
)

_BROKEN = "broken-"
_MISSING = "planned, and in no shard of the cache"


@checked_dataclass(frozen=True, config=config.STRICT)
class VerifySettings:
    """Settings of `distill3r cache verify`."""

    path: Path
    manifest: Path = paths.MANIFEST  # images are compared where it is there
    recompute: int = 0  # random samples to ask the teacher about again
    weights: Path | None = None
    repair: bool = False  # drop what is broken, so that `--resume` makes it again
    device: str = "auto"
    seed: int = 0  # of the choice of samples


@dataclass(frozen=True)
class _Damage:
    """One thing that is broken.

    Args:
        shard: Folder of the shard.
        kind: A sample of the shard; the whole shard; its copy of the header and its identity,
            which are written again; or nothing but the place: it is a shard of another cache.
        name: The sample; None for the other kinds.
    """

    shard: Path
    kind: Literal["sample", "shard", "header", "foreign"]
    reason: str
    name: str | None = None


@dataclass(frozen=True)
class _Checked:
    """What the shards hold.

    Args:
        missing: Planned samples that no shard lists, broken or not.
    """

    damage: list[_Damage]
    missing: list[str]
    samples: int
    views: int


def verify_cache(settings: VerifySettings, *, progress: Progress = Silent()) -> Report:
    """Check every record of every shard, and what the cache was made of.

    Args:
        settings: See `VerifySettings`.

    Returns:
        `result["ok"]` says whether all that is stored is what was written, of images that are
        still the same; after a repair, whether what is left is. Planned samples that are not
        stored, and those about which the teacher now says something else, are left-out items.

    Raises:
        InputMissingError: There is no cache; or the teacher is to be asked, and there is no
            manifest of its samples.
        WeightsError: The teacher is to be asked, and its weights are missing.
        ConflictError: A repair is asked for while a shard is being written to, or the teacher is
            to be asked with other weights.
    """
    cache, header_fault = _open(settings)
    rebuilt = None
    if settings.recompute:  # refuse before the long work
        rebuilt = rebuild_teacher(
            cache, settings.manifest, weights=settings.weights, device=settings.device
        )
    checked = _check_shards(cache, progress)
    damage, missing = checked.damage, checked.missing
    changed = _changed(cache, settings.manifest, damage, progress)
    foreign = [one for one in damage if one.kind == "foreign"]
    if settings.repair:
        _repair(damage, cache.header)
        cache.refresh()
    again: dict[str, TargetDifference] = {}
    if rebuilt is not None:
        unfit = {failure.item for failure in changed}
        known = [n for n in _names(cache, damage) if n in rebuilt.samples and n not in unfit]
        some = random.Random(settings.seed).sample(known, min(settings.recompute, len(known)))
        again = recompute(cache, rebuilt, some, progress)
    ok = (settings.repair or not (damage or header_fault)) and not changed and not foreign
    # A repair is the step before `cache --resume`, which makes what is missing.
    failed = [] if settings.repair else [Failure(name, _MISSING) for name in missing]
    failed += [
        Failure(name, f"recomputed targets differ: {difference}")
        for name, difference in again.items()
        if difference.verdict == "different"
    ]
    result = {
        "ok": ok,
        "samples": checked.samples,
        "views": checked.views,
        "damaged": [*filter(None, [header_fault]), *(_describe(one) for one in damage)],
        "missing": missing,
        "changed": [failure.item for failure in changed],
        "repaired": len(damage) - len(foreign) + bool(header_fault) if settings.repair else 0,
        "recomputed": [
            {
                "sample": name,
                "verdict": difference.verdict,
                "equal": difference.equal,
                "largest_step": difference.largest_step,
                "flipped": difference.flipped,
            }
            for name, difference in again.items()
        ],
    }
    return Report(
        settings=config.as_plain(settings),
        result=result,
        failed=failed,
        tables=[_table(settings, result, again)],
        notes=_notes(settings, header_fault, damage, missing, changed, again),
    )


def _table(
    settings: VerifySettings, result: Mapping[str, Any], again: Mapping[str, TargetDifference]
) -> Table:
    verdict = "sound" if result["ok"] else "damaged"
    if result["ok"] and result["missing"]:
        verdict = "sound, and not finished"
    rows = [
        ("samples", str(result["samples"])),
        ("views", str(result["views"])),
        ("damaged", str(len(result["damaged"]))),
        ("planned, and missing", str(len(result["missing"]))),
        (
            "pictures changed since",
            str(len(result["changed"])) if settings.manifest.exists() else "-",
        ),
    ]
    rows += [(f"recomputed: {name}", str(difference)) for name, difference in again.items()]
    return Table(f"cache {settings.path}: {verdict}", ("", ""), tuple(rows))


def _notes(
    settings: VerifySettings,
    header_fault: str | None,
    damage: Sequence[_Damage],
    missing: Sequence[str],
    changed: Sequence[Failure],
    again: Mapping[str, TargetDifference],
) -> list[str]:
    notes = []
    if header_fault:
        done = ": rebuilt from the shards" if settings.repair else ""
        notes.append(f"{header_fault}{done}")
    notes += [_describe(one) for one in damage]
    notes += [f"{failure.item}: {failure.reason}" for failure in changed]
    if not settings.manifest.exists():
        notes.append(f"pictures were not compared: no {settings.manifest} (--manifest)")
    resume = f"`distill3r cache --resume -o {settings.path}`"
    if (damage or header_fault) and not settings.repair:
        notes.append(f"`verify --repair`, then {resume}")
    elif damage or missing:
        dropped = "what was broken is out of the way; " if damage else ""
        notes.append(f"{dropped}what is missing is made by {resume}")
    if settings.recompute and len(again) < settings.recompute:
        notes.append(f"recomputed {len(again)} samples (all of them)")
    if any(difference.verdict == "different" for difference in again.values()):
        notes.append(
            "another device, precision or version may answer otherwise; the ones that the cache "
            "was made with may not (docs/cache.md)"
        )
    return notes


def _open(settings: VerifySettings) -> tuple[TeacherCache, str | None]:
    """The cache, and what is wrong with its header, which a repair rebuilds from the shards.

    Raises:
        InputMissingError: There is no cache.
        CacheError: The header is damaged, and no shard holds a copy of it.
    """
    path = settings.path
    try:
        return TeacherCache(path), None
    except (CacheError, ConflictError, InputMissingError) as error:
        if isinstance(error, ConflictError) and not header_is_damaged(path):
            raise  # another version of the format
        if isinstance(error, InputMissingError) and not shard_folders(path):
            raise
        fault, header = error.message, rebuild_header(path)
    if settings.repair:
        write_header(path, header)
    return TeacherCache(path, header=header), fault


def _check_shards(cache: TeacherCache, progress: Progress) -> _Checked:
    """Look at every sample of every shard."""
    path = cache.path
    damage = [
        _Damage(folder, "shard", f"{folder / DATA} is gone, with all that it held")
        for folder in emptied_shards(path)
    ]
    listed: list[tuple[ShardReader, str, Entry]] = []
    for folder in shard_folders(path):
        try:
            shard = ShardReader(folder)
            if fault := shard.header_fault():
                damage.append(_Damage(folder, "header", fault))
            elif fault := foreign_shard(shard, cache.header.identity):
                damage.append(_Damage(folder, "foreign", fault))
                continue
            sound, broken = shard.listing()
            listed += [(shard, name, entry) for name, entry in sound]
            damage += [_Damage(folder, "sample", reason, name) for name, reason in broken]
        except DamageError as error:
            damage.append(_Damage(folder, "shard", error.message))
    decoder, views, layers = ViewDecoder(), 0, tuple(cache.header.features)
    known = len(damage)
    progress.begin("comparing checksums", total=len(listed), unit="samples")
    for shard, name, entry in listed:
        views += entry.views
        try:
            _check_sample(shard, entry, decoder, layers)
        except DamageError as error:
            damage.append(_Damage(shard.folder, "sample", error.message, name))
        progress.advance(1, damaged=str(len(damage)))
    samples = len(listed) + sum(one.name is not None for one in damage[:known])
    contents = {(name, entry.content) for _, name, entry in listed}
    damaged = {one.name for one in damage}
    missing = [
        planned.name
        for planned in cache.header.plan
        if (planned.name, planned.content) not in contents and planned.name not in damaged
    ]
    return _Checked(damage, missing, samples, views)


def _check_sample(
    shard: ShardReader, entry: Entry, decoder: ViewDecoder, layers: Sequence[str]
) -> None:
    buffers = ViewBuffers.allocate(1, delivered_planes(entry.kind), entry.size)
    for view in range(entry.views):
        decoder.maps(shard.maps(entry, view), buffers.planes[0], buffers.mask[0], thorough=True)
        decoder.image(shard.image(entry, view), buffers.images[0], thorough=True)
        for layer in layers:
            features = shard.features(entry, view, layer)
            out = np.empty(decoder.features.shape(features), np.float16)
            decoder.features.decode(features, out, thorough=True)
    shard.detail(entry)


def _changed(
    cache: TeacherCache, manifest: Path, damage: Sequence[_Damage], progress: Progress
) -> list[Failure]:
    """Samples whose images, depth, K or poses are no longer what the teacher read."""
    if not manifest.exists():
        return []
    samples = samples_of(read_manifest(manifest), cache.header)
    # An imported sample is known by its files, which are no images of a manifest.
    known = [
        name
        for name in _names(cache, damage)
        if name in samples and "contents" in cache.detail(name)
    ]
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


def _repair(damage: Sequence[_Damage], header: CacheHeader) -> None:
    """Drop broken samples, move shards aside that cannot be opened, write copies of the header.

    Raises:
        ConflictError: A shard is being written to.
    """
    for folder in sorted({one.shard for one in damage if one.kind == "shard"}):
        lock = WriterLock(folder)
        try:
            number = 0
            while (aside := folder.with_name(f"{_BROKEN}{folder.name}-{number}")).exists():
                number += 1
            folder.rename(aside)
        finally:
            lock.release()
    for folder in sorted({one.shard for one in damage if one.kind in ("sample", "header")}):
        faults = [one for one in damage if one.shard == folder]
        with ShardWriter(folder) as shard:
            for one in faults:
                if one.name is not None:
                    shard.drop(one.name)
            if any(one.kind == "header" for one in faults):
                shard.keep_header(header.identity, header_text(header))


def _names(cache: TeacherCache, damage: Sequence[_Damage]) -> list[str]:
    """Sound samples; none where a shard cannot be opened, which is damage enough."""
    if any(one.kind != "sample" for one in damage):
        return []
    broken = {one.name for one in damage}
    return [name for name in cache.names() if name not in broken]


def _describe(damage: _Damage) -> str:
    where = str(damage.shard / DATA)
    if damage.name is None:
        return damage.reason
    name = damage.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return f"{where}: {name}: {damage.reason}"
