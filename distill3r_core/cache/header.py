"""What a cache says about itself: how its targets were made, and which samples are planned."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from distill3r_core import config
from distill3r_core.errors import CacheError, ConfigError, ConflictError, InputMissingError
from distill3r_core.files import write_text

FORMAT_VERSION = 1
HEADER = "cache.json"

_LOCK = "cache.lock"
_FREE = frozenset({"plan", "processing", "format_version"})  # may change from run to run


@dataclass(frozen=True)
class PlannedSample:
    """A sample that the cache is to hold."""

    name: str  # `<dataset>/<scene_id>/<window>`
    content: str  # hash of all that the teacher reads of it
    split: str


@dataclass(frozen=True)
class CacheHeader:
    """How a cache was made. Two caches with the same settings hold the same bytes.

    Args:
        size: Rows and columns of landscape samples, or "auto": one of a table per sample.
        fit: How pictures become the student's input: `Fit` as plain data. With size "auto"
            its size is the one that the table stands for.
        teacher_settings: What else decides the teacher's answers, as plain data.
        export: How raw maps became targets (`teachers.export`), as plain data.
        codec: "similarity", or "exact": the float16 global map comes back bit for bit.
        plugins: Hash of each plugin that was loaded, by file name.
        features: Number of channels of every layer whose teacher features are stored beside the
            samples, by the name of the layer.
        views: Per sample, where the manifest had no windows and was cut; None where it had.
        processing: How the manifest's pictures were made, as plain data.
    """

    __pydantic_config__ = config.STRICT  # when it is read back

    teacher: str
    license: str  # of the teacher's weights, which a student inherits
    weights_hash: str | None  # of the weight file; None where there is none
    size: tuple[int, int] | Literal["auto"]
    fit: Mapping[str, Any]
    threshold: float | None  # on `C - 1`; None: the mask is the teacher's own
    metric: bool  # whether points are in metres
    teacher_settings: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    codec: Literal["similarity", "exact"] = "similarity"
    plugins: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, int] = field(default_factory=dict)
    views: int | None = None
    processing: Mapping[str, Any] = field(default_factory=dict)
    plan: tuple[PlannedSample, ...] = ()  # what the cache is to hold, in the manifest's order
    format_version: int = FORMAT_VERSION

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what the cache's targets are, as plain data."""
        values = json.loads(json.dumps(asdict(replace(self, plan=()))))
        return {key: value for key, value in values.items() if key not in _FREE}


def read_header(folder: Path) -> CacheHeader:
    """The header of a cache.

    Raises:
        InputMissingError: There is no cache.
        ConflictError: It was written in another version of the format.
        CacheError: Its header cannot be read.
    """
    path = folder / HEADER
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format_version"]
    except FileNotFoundError as error:
        raise InputMissingError(
            f"no teacher cache in {folder}", hint=f"make one with `distill3r cache -o {folder}`"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CacheError(f"{path} cannot be read: {error}") from error
    if version != FORMAT_VERSION:
        raise ConflictError(
            f"{folder} has cache format version {version}, this program reads {FORMAT_VERSION}",
            hint="use the version of distill3r that wrote it, or make the cache again elsewhere",
        )
    plan = _read_plan(path, values.pop("plan", None))
    try:
        header = config.validate(CacheHeader, values, source=str(path))
    except ConfigError as error:
        raise CacheError(error.message) from error
    return replace(header, plan=plan)


def _read_plan(path: Path, entries: object) -> tuple[PlannedSample, ...]:
    # By hand: pydantic would take seconds for a million of them.
    if not isinstance(entries, list):
        raise CacheError(f"{path} lacks its plan, the list of samples")
    for entry in entries:
        if not (isinstance(entry, list) and list(map(type, entry)) == [str] * 3):
            raise CacheError(f"{path}: the plan has {entry!r} where name, content and split belong")
    return tuple(PlannedSample(*entry) for entry in entries)


def publish_header(folder: Path, header: CacheHeader) -> None:
    """Write the header, or bring the plan of the one that is there up to date.

    Several ranks may call this at once.

    Raises:
        ConflictError: The cache there was made with other settings (names the differences), or
            the folder holds something else.
        DiskFullError: There is no room.
    """
    refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _LOCK):
        if (folder / HEADER).exists():
            there = read_header(folder)
            compare_settings(folder, there, header)
            if there == header:
                return
        _write(folder / HEADER, header)


def refuse_foreign(folder: Path) -> None:
    """Refuse to begin a cache among other files, before anything is written there.

    Shards without a header are others, too: nobody knows how they were made.

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
            hint="choose another folder with -o",
        )


def compare_settings(folder: Path, there: CacheHeader, wanted: CacheHeader) -> None:
    """Refuse to mix targets that were made in different ways.

    Raises:
        ConflictError: The settings differ; names each one with both values.
    """
    lines = config.differences(there.settings, wanted.settings)
    if lines:
        raise ConflictError(
            f"{folder} was made with other settings:\n" + "\n".join(f"  {line}" for line in lines),
            hint="choose another folder with -o, or the settings it was made with",
        )


def _write(path: Path, header: CacheHeader) -> None:
    values = asdict(replace(header, plan=()))
    # One line for each sample: a person can read it, and a million of them stay small.
    plan = ",\n  ".join(
        json.dumps([p.name, p.content, p.split], ensure_ascii=False) for p in header.plan
    )
    del values["plan"]
    head = json.dumps(values, indent=1, ensure_ascii=False).rstrip("\n}")
    text = f'{head},\n "plan": [\n  {plan}\n ]\n}}\n'
    write_text(path, text, durable=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
