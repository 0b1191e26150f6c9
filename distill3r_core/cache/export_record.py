"""What an export in the original format leaves out, kept in a file of its own beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from distill3r_core import config
from distill3r_core.cache.header import CacheHeader
from distill3r_core.errors import ConfigError, ConflictError, DamageError
from distill3r_core.files import read_text_file, write_text
from distill3r_core.system.disk import disk_errors
from distill3r_core.untrusted.printable import reason_of

EXPORT_RECORD = "distill3r-export.json"
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
# Parts of a header that do not describe an export.
_ABSENT = ("plan", "features", "identity", "revision")


@dataclass(frozen=True)
class ExportedSample:
    """Name and split of a sample in the cache that was exported."""

    name: str
    split: str


@dataclass(frozen=True)
class ExportRecord:
    """How an exported cache was made, and its samples by folder."""

    header: CacheHeader  # without plan and features, which the format does not carry
    samples: Mapping[str, ExportedSample]


def write_export_record(
    folder: Path, header: CacheHeader, samples: Mapping[str, ExportedSample]
) -> None:
    """Write the record of an export, or add samples to the one that is there.

    Args:
        folder: The exported folder.
        header: Header of the cache.
        samples: Its samples by the folder, below `folder`, that each is written to.

    Raises:
        ConflictError: The folder holds the export of a cache that was made with other settings.
        DamageError: The record that is there cannot be read.
        DiskFullError: There is no room.
    """
    there = read_export_record(folder)
    if there is not None and (
        lines := config.differences(there.header.settings, replace(header, features={}).settings)
    ):
        raise ConflictError(
            f"{folder} holds an export of another cache:\n" + "\n".join(f"  {x}" for x in lines),
            hint="choose another folder with -o",
        )
    known = {} if there is None else dict(there.samples)
    listed = {
        place: [sample.name, sample.split] for place, sample in sorted({**known, **samples}.items())
    }
    described = {k: v for k, v in config.as_plain(header).items() if k not in _ABSENT}
    plain = {"header": described, "samples": listed}
    path = folder / EXPORT_RECORD
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def read_export_record(folder: Path) -> ExportRecord | None:
    """The record of an export; None where the folder has none, as the original project's caches.

    Raises:
        DamageError: It cannot be read.
    """
    path = folder / EXPORT_RECORD
    try:
        found = json.loads(read_text_file(path))
        header = config.validate(CacheHeader, found["header"], source=str(path))
        samples = {
            place: ExportedSample(str(name), str(split))
            for place, (name, split) in found["samples"].items()
        }
    except FileNotFoundError:
        return None
    except (*_DAMAGED, ConfigError) as error:
        raise DamageError(
            f"{path} cannot be read: {reason_of(error)}",
            hint="export the cache again, to another folder",
        ) from error
    return ExportRecord(header, samples)
