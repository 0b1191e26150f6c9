"""What a cache holds: settings, counts, sizes, scenes, and an image of one sample."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill3r_core.cache.maps.maps_layout import Kind
from distill3r_core.cache.shard import DATA, Entry, ShardReader, shard_folders
from distill3r_core.cache.store import CachedSample, TeacherCache
from distill3r_core.io.images.decode import write_image
from distill3r_core.io.previews import colorize, compose, limits
from distill3r_core.report import Report, Table, gigabytes
from distill3r_core.teachers import TEACHERS

_RAW = 16  # bytes of a pixel's eight maps in float16
_SHOWN_VIEWS = 4
_KINDS = {
    Kind.DEPTH: "depth (one plane)",
    Kind(0): "similarity (three planes)",
    Kind.EXACT: "similarity, exact",
    Kind.INDEPENDENT: "independent global map",
}


def cache_info(path: Path, *, picture: Path | None = None, sample: str | None = None) -> Report:
    """Describe a cache.

    Args:
        path: Its folder.
        picture: Where to draw a sample's maps; None: nowhere.
        sample: Which one; None: the first.

    Raises:
        InputMissingError: There is no cache.
        CacheError: It has no such sample, or none at all to draw.
    """
    cache = TeacherCache(path)
    header, names = cache.header, cache.names()
    entries = {name: cache.entry(name) for name in names}
    stored = [
        (name, entry)
        for folder in shard_folders(path)
        for name, entry in ShardReader(folder).entries()
    ]
    views = sum(entry.views for entry in entries.values())
    raw = sum(_RAW * e.views * e.size[0] * e.size[1] for e in entries.values())
    maps = sum(entry.maps_bytes for entry in entries.values())
    images = sum(entry.images_bytes for entry in entries.values())
    result = {
        "path": str(path),
        "settings": header.settings,
        "confidence": header.confidence,
        "planned": len(header.plan),
        "finished": len(names),
        "missing": len(cache.missing()),
        "unplanned": len(stored) - len(names),
        "shards": len(shard_folders(path)),
        "views": views,
        "local_only": sum(bool(entry.kind & Kind.LOCAL_ONLY) for entry in entries.values()),
        "bytes": maps + images,
        "maps_bytes": maps,
        "pictures_bytes": images,
        "file_bytes": sum((f / DATA).stat().st_size for f in shard_folders(path)),
        "ratio": maps / raw if raw else None,
        "scenes": _scenes(entries),
    }
    files = []
    if picture is not None:
        chosen = cache.read(sample or (names[0] if names else "(none)"))
        write_image(picture, sample_image(chosen))
        files.append(picture)
    return Report(
        settings={},
        result=result,
        files=files,
        tables=[_summary(path, header.settings, result, entries), _scene_table(result["scenes"])],
        notes=_notes(cache, result),
    )


def sample_image(sample: CachedSample) -> np.ndarray:
    """A sample's first views: photo, depth and both confidences, one row a view."""
    targets = sample.targets
    count = min(_SHOWN_VIEWS, len(sample.images))
    masks = [targets.valid_mask[view].numpy() for view in range(count)]
    depths = [targets.points_local[view, ..., 2].numpy() for view in range(count)]
    span = limits(np.stack(depths), np.stack(masks))
    rows = []
    for view in range(count):
        local = targets.confidence_local[view].log().numpy()
        doubt = targets.confidence_global[view].log().numpy()
        shared = limits(np.stack([local, doubt]), np.stack([masks[view]] * 2))
        rows.append(
            [
                sample.images[view].permute(1, 2, 0).numpy(),
                colorize(depths[view], table="depth", span=span, mask=masks[view]),
                colorize(local, table="confidence", span=shared, mask=masks[view]),
                colorize(doubt, table="confidence", span=shared, mask=masks[view]),
            ]
        )
    headings = ("picture", "depth", "confidence, local", "confidence, global")
    return compose(rows, headings=headings)


def _scenes(entries: dict[str, Entry]) -> list[dict[str, Any]]:
    scenes: dict[str, list[Entry]] = defaultdict(list)
    for name, entry in entries.items():
        scenes[name.rsplit("/", 1)[0]].append(entry)
    return [
        {
            "scene": scene,
            "samples": len(some),
            "views": sum(entry.views for entry in some),
            "sizes": sorted({f"{entry.size[0]}x{entry.size[1]}" for entry in some}),
            "bytes": sum(entry.maps_bytes + entry.images_bytes for entry in some),
        }
        for scene, some in sorted(scenes.items())
    ]


def _summary(
    path: Path, settings: dict[str, Any], result: dict[str, Any], entries: dict[str, Entry]
) -> Table:
    beside = Kind.SHARED | Kind.LOCAL_ONLY
    kinds = sorted({_KINDS[entry.kind & ~beside] for entry in entries.values()})
    size = settings["size"]
    rows = [
        ("teacher", f"{settings['teacher']} ({settings['license']})"),
        ("weights", settings["weights_hash"] or "-"),
        ("size", size if size == "auto" else f"{size[0]}x{size[1]}"),
        ("fit", settings["fit"].get("mode", "-")),
        ("threshold", str(settings["threshold"])),
        ("confidence", result["confidence"] or "not recorded"),
        ("points in", "meters" if settings["metric"] else "no known unit"),
        ("stored as", ", ".join(kinds) or "-"),
        ("samples", f"{result['finished']} of {result['planned']}, {result['views']} views"),
        ("shards", str(result["shards"])),
        ("targets", gigabytes(result["maps_bytes"])),
        ("pictures", gigabytes(result["pictures_bytes"])),
    ]
    if result["local_only"]:
        rows.append(("local maps only", f"{result['local_only']} samples: they have no poses"))
    if result["ratio"] is not None:
        rows.append(("targets against float16", f"{result['ratio']:.1%}"))
    return Table(f"cache {path}", ("", ""), tuple(rows))


def _scene_table(scenes: Sequence[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            scene["scene"],
            str(scene["samples"]),
            str(scene["views"]),
            ", ".join(scene["sizes"]),
            gigabytes(scene["bytes"]),
        )
        for scene in scenes
    )
    return Table("scenes", ("scene", "samples", "views", "size", "stored"), rows)


def _notes(cache: TeacherCache, result: dict[str, Any]) -> list[str]:
    notes = []
    if result["missing"]:
        notes.append(
            f"{result['missing']} planned samples are missing (first: {cache.missing()[0]}): "
            f"distill3r cache --resume -o {cache.path}"
        )
    if result["unplanned"]:
        notes.append(f"{result['unplanned']} stored samples are no longer planned, and not read")
    name = cache.header.teacher
    if name in TEACHERS and TEACHERS[name].simulated:
        notes.append(f"made by the {name} teacher: made-up scenes, not the pictures'")
    return notes
