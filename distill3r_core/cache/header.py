"""The file `cache.json` of a cache: read, begun, brought up to date."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from distill3r_core import config
from distill3r_core.cache.header_record import (
    FORMAT_VERSION,
    CacheHeader,
    PlannedSample,
    checksum_fits,
    header_text,
    parse_header,
)
from distill3r_core.errors import CacheError, ConflictError, InputMissingError
from distill3r_core.files import open_own, read_own, remove_leftovers, replacing

__all__ = [
    "FORMAT_VERSION",
    "HEADER",
    "CacheHeader",
    "PlannedSample",
    "compare_settings",
    "header_is_damaged",
    "joint_confidence",
    "publish_header",
    "read_header",
    "refuse_foreign",
    "write_header",
]

HEADER = "cache.json"
SHARD_FILES = "shard-*/data.mdb"

_LOCK = "cache.lock"
_IDENTITY_BYTES = 16


def read_header(folder: Path) -> CacheHeader:
    """The header of a cache.

    Raises:
        InputMissingError: There is no cache.
        ConflictError: It was written in another version of the format.
        CacheError: Its header is damaged.
    """
    path = folder / HEADER
    try:
        data = read_own(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        if any(folder.glob(SHARD_FILES)):
            raise InputMissingError(f"{path} is missing", hint=_rebuild(folder)) from error
        raise InputMissingError(
            f"no teacher cache in {folder}", hint=f"make one with `distill3r cache -o {folder}`"
        ) from error
    try:
        return parse_header(data, source=str(path))
    except CacheError as error:
        raise CacheError(error.message, hint=_rebuild(folder)) from error


def header_is_damaged(folder: Path) -> bool:
    """Whether `cache.json` is not what was written, as its own checksum says."""
    return not checksum_fits(read_own(folder / HEADER))


def publish_header(folder: Path, header: CacheHeader) -> CacheHeader:
    """Write the header, or bring the plan of the one that is there up to date.

    Several ranks may call this at once.

    Returns:
        The header as it is on the disk, with the identity of the cache.

    Raises:
        ConflictError: The cache there was made with other settings (names the differences), or
            the folder holds something else.
        DiskFullError: There is no room.
    """
    refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _LOCK):
        remove_leftovers(folder, below=False)
        identity, revision = secrets.token_hex(_IDENTITY_BYTES), 0
        if (folder / HEADER).exists():
            there = read_header(folder)
            compare_settings(folder, there, header)
            header = replace(header, confidence=joint_confidence(there, header))
            if there == header:
                return there
            identity, revision = there.identity, there.revision
        header = replace(header, identity=identity, revision=revision + 1)
        write_header(folder, header)
        return header


def write_header(folder: Path, header: CacheHeader) -> None:
    """Write `cache.json`, whole or not at all.

    Raises:
        DiskFullError: There is no room.
    """
    with replacing(folder / HEADER, durable=True) as beside:
        beside.write_bytes(header_text(header))


def refuse_foreign(folder: Path) -> None:
    """Refuse to begin a cache among other files, before anything is written there.

    Shards whose header was lost count as other files: it has to be rebuilt first.

    Raises:
        ConflictError: There is something, and no header.
    """
    if not folder.is_dir():
        return
    # One listing: another rank may be about to begin the same cache.
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    others = [name for name in names if name != _LOCK]
    if others and HEADER not in names:
        raise ConflictError(
            f"{folder} holds other files and no {HEADER}: {', '.join(others[:3])}"
            + (" ..." if len(others) > 3 else ""),
            hint="choose another folder with -o"
            + (f"; {_rebuild(folder)}" if any(folder.glob(SHARD_FILES)) else ""),
        )


def compare_settings(folder: Path, there: CacheHeader, wanted: CacheHeader) -> None:
    """Refuse to mix targets that were made in different ways.

    Raises:
        ConflictError: The settings differ; names each one with both values.
    """
    lines = config.differences(there.settings, wanted.settings)
    before, after = there.confidence, wanted.confidence
    if before and after and before != after:
        lines.append(f"confidence: {before} → {after}")
    if lines:
        raise ConflictError(
            f"{folder} was made with other settings:\n" + "\n".join(f"  {line}" for line in lines),
            hint="choose another folder with -o, or the settings it was made with",
        )


def joint_confidence(*headers: CacheHeader) -> str:
    """What is recorded of the confidences of all records together; "" where it is not of some.

    Args:
        headers: Of caches that `compare_settings` has found to fit.
    """
    said = {header.confidence for header in headers}
    return said.pop() if len(said) == 1 else ""


def _rebuild(folder: Path) -> str:
    return f"`distill3r cache verify --repair {folder}` rebuilds it from the shards"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = open_own(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
