"""Several caches as one: shards of job arrays, parts made on different machines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from distill3r_core.cache.header import HEADER, PlannedSample, compare_settings, joint_confidence
from distill3r_core.cache.sample_codec import EncodedSample
from distill3r_core.cache.shard import Entry, ShardReader
from distill3r_core.cache.store import CacheWriter, TeacherCache
from distill3r_core.errors import ConfigError, ConflictError, DiskFullError
from distill3r_core.report import Progress, Report, Silent, Table, gigabytes
from distill3r_core.stages.cache.cache_report import free_bytes

# Bytes in one transaction. Each waits for the disk, which takes longer than small samples do.
_COMMITTED = 1 << 24


def merge_caches(parts: Sequence[Path], output: Path, *, progress: Progress = Silent()) -> Report:
    """Copy the finished samples of caches into one shard of one cache, as they are stored.

    One cache alone is copied as well: its shards become one, and what was replaced or dropped
    stays behind. Samples that are there already are not copied again, so a merge that was
    interrupted continues where it was.

    Args:
        parts: Folders of caches that were made with the same settings.
        output: Folder of the cache that is made, or is added to.

    Raises:
        InputMissingError: One of them is no cache.
        ConflictError: They were made with different settings, hold different contents under one
            name, or the output holds something else.
        DiskFullError: There is not enough room.
    """
    if output.resolve() in [part.resolve() for part in parts]:
        raise ConfigError(f"{output} cannot be merged into itself", hint="name a new folder: -o")
    caches = [TeacherCache(part) for part in parts]
    if (output / HEADER).exists():
        caches = [TeacherCache(output), *caches]
    # One that records less than others fits all of them, which need not fit each other.
    wanted = next((cache for cache in caches if cache.header.confidence), caches[0]).header
    for cache in caches:
        compare_settings(cache.path, cache.header, wanted)
    joint = joint_confidence(*(cache.header for cache in caches))
    header = replace(caches[0].header, plan=_plan(caches), confidence=joint)
    chosen = {name: cache for cache in reversed(caches) for name in cache.names()}
    todo = [name for name in sorted(chosen) if chosen[name].path != output]
    needed = sum(_bytes(chosen[name].entry(name)) for name in todo)
    if needed > (free := free_bytes(output)):
        raise DiskFullError(
            f"{output} needs {gigabytes(needed)}, {gigabytes(free)} are free",
            hint="free some space, or choose another disk with -o",
        )
    progress.begin("merging", total=len(todo), unit="samples")
    with CacheWriter(output, header) as writer:
        for names in _groups(todo, {name: _bytes(chosen[name].entry(name)) for name in todo}):
            writer.put_all([stored_sample(chosen[name], name) for name in names])
            progress.advance(len(names))
    merged = TeacherCache(output)
    result = {
        "finished": len(merged.names()),
        "planned": len(header.plan),
        "copied": len(todo),
        "bytes": sum(_bytes(merged.entry(name)) for name in merged.names()),
    }
    rows = (
        ("caches", str(len(parts))),
        ("samples", f"{result['finished']} of {result['planned']}"),
        ("copied now", str(len(todo))),
        ("size", gigabytes(result["bytes"])),
    )
    return Report(
        settings={"parts": [str(part) for part in parts], "output": str(output)},
        result=result,
        files=[output],
        tables=[Table(f"cache {output}", ("", ""), rows)],
    )


def _groups(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names in order, as many together as are committed at once; a large one alone."""
    group, size = list[str](), 0
    for name in names:
        if group and size + sizes[name] > _COMMITTED:
            yield group
            group, size = [], 0
        group.append(name)
        size += sizes[name]
    if group:
        yield group


def stored_sample(cache: TeacherCache, name: str) -> EncodedSample:
    """A sample's records as they are stored, without unpacking them."""
    shard: ShardReader
    shard, entry = cache.place(name)
    maps = tuple(bytes(shard.maps(entry, view)) for view in range(entry.views))
    images = tuple(bytes(shard.image(entry, view)) for view in range(entry.views))
    features = {
        layer: tuple(bytes(shard.features(entry, view, layer)) for view in range(entry.views))
        for layer in cache.header.features
    }
    detail = shard.detail(entry)
    return EncodedSample(
        name, entry.content, entry.kind, entry.size, maps, images, detail, features
    )


def _plan(caches: Sequence[TeacherCache]) -> tuple[PlannedSample, ...]:
    """All planned samples, in the order in which they come.

    Raises:
        ConflictError: One name stands for different contents.
    """
    planned: dict[str, PlannedSample] = {}
    for cache in caches:
        for sample in cache.header.plan:
            known = planned.setdefault(sample.name, sample)
            if known.content != sample.content:
                raise ConflictError(
                    f"{cache.path} and another one hold different contents as {sample.name!r}",
                    hint="bring them up to date with `distill3r cache --resume` first",
                )
    return tuple(planned.values())


def _bytes(entry: Entry) -> int:
    return entry.maps_bytes + entry.images_bytes
