"""The copies of a cache's header in its shards: which shard belongs here, and a lost header."""

from collections import Counter
from pathlib import Path

from distill3r_core.cache.header import HEADER, publish_header
from distill3r_core.cache.header_record import CacheHeader, header_text, parse_header
from distill3r_core.cache.shard import ShardReader, ShardWriter, shard_folders
from distill3r_core.errors import CacheError, ConflictError, DamageError


def refuse_foreign_shard(shard: ShardReader, identity: str) -> None:
    """Refuse a shard that was written for another cache.

    Caches and shards of earlier versions carry no identity, and fit everywhere.

    Args:
        shard: A shard in the folder of a cache.
        identity: Identity of that cache.

    Raises:
        ConflictError: The shard belongs to another one.
        DamageError: The shard cannot be read.
    """
    if fault := foreign_shard(shard, identity):
        raise ConflictError(
            fault,
            hint=f"move {shard.folder} to the cache it was made for; `distill3r cache merge` makes "
            "one cache of several",
        )


def foreign_shard(shard: ShardReader, identity: str) -> str | None:
    """Says that a shard belongs to another cache; None where it belongs to this one."""
    found = shard.identity() if identity else ""
    if found in ("", identity):
        return None
    return f"{shard.folder} belongs to another cache: {found[:8]}, and this is {identity[:8]}"


def rebuild_header(cache: Path) -> CacheHeader:
    """The newest header of which a shard holds a copy.

    Its plan may be older than the one that was lost: `cache --resume` brings it up to date.

    Raises:
        CacheError: No shard holds a sound copy.
    """
    found: list[CacheHeader] = []
    for folder in shard_folders(cache):
        try:
            copy = ShardReader(folder).header_copy()
            if copy is not None:
                found.append(parse_header(copy, source=f"the header in {folder}"))
        except (DamageError, CacheError, ConflictError):
            continue  # other shards hold a copy as well
    if not found:
        raise CacheError(
            f"{cache / HEADER} cannot be rebuilt: no shard holds a copy of it",
            hint="restore the file from a backup, or make the cache again in another folder",
        )
    # A shard of another cache may have got into the folder.
    identity, _ = Counter(header.identity for header in found).most_common(1)[0]
    return max((h for h in found if h.identity == identity), key=lambda h: h.revision)


def update_plan(cache: Path, header: CacheHeader) -> None:
    """Bring the plan of a cache up to date: in its header, and in the copies of idle shards.

    Raises:
        ConflictError: The cache was made with other settings.
        DiskFullError: There is no room.
    """
    published = publish_header(cache, header)
    for folder in shard_folders(cache):
        try:
            with ShardWriter(folder) as writer:
                writer.keep_header(published.identity, header_text(published))
        except ConflictError:
            continue  # whoever writes to it has stored a copy
