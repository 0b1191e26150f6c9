"""Where a result goes, and what is done about the one that lies there already."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core import config, plugins
from distill3r_core.errors import ConflictError
from distill3r_core.files import remove_leftovers, write_text

RECORD = "run.json"  # in every result folder: identity, machine, figures
STARTED = ".started.json"  # until the record is there: whose half-written result this is

_FOREIGN = {"folder": "holds other files"}  # an identity that no result has


@dataclass(frozen=True)
class Claim:
    """A folder for a result."""

    folder: Path
    finished: bool  # the same result is there already; nothing is to be done


def claim(
    default: Path, *, chosen: Path | None, identity: Mapping[str, Any], overwrite: bool
) -> Claim:
    """The folder for a result.

    Args:
        default: Used where none is chosen; if it holds another result, `-2`, `-3` ... is appended.
        identity: All that changes the result (settings, inputs with their hashes), as plain data.
            Plugins are added to it.
        overwrite: Replace another result in `chosen`.

    Returns:
        The claim. A result that a kill cut short, or whose files somebody removed, is taken up
        again by the same identity; an empty one is not a conflict.

    Raises:
        ConflictError: `chosen` holds something else.
    """
    identity = _with_plugins(identity)
    if chosen is None:
        number, folder = 1, default
        while _identity_in(folder) not in (None, identity):
            number += 1
            folder = default.with_name(f"{default.name}-{number}")
        return _taken(folder, identity)
    for place in (chosen, *chosen.parents):
        if place.exists() and not place.is_dir():
            raise ConflictError(f"{place} is a file", hint="choose another folder with -o")
    found = _identity_in(chosen)
    begun_only = chosen.is_dir() and [path.name for path in chosen.iterdir()] == [STARTED]
    if found not in (None, identity) and not (overwrite or begun_only):
        hint = "choose another folder with -o, or replace it with --overwrite"
        if found == _FOREIGN:
            raise ConflictError(f"{chosen} holds other files", hint=hint)
        lines = "\n".join(f"  {line}" for line in config.differences(found or {}, identity))
        raise ConflictError(f"{chosen} holds another result:\n{lines}", hint=hint)
    return _taken(chosen, identity)


def _taken(folder: Path, identity: Mapping[str, Any]) -> Claim:
    if (folder / RECORD).is_file() and _identity_in(folder) == identity:
        files = read_record(folder).get("files", ())
        if all((folder / name).exists() for name in files):
            return Claim(folder, finished=True)
    remove_leftovers(folder)
    write_text(folder / STARTED, json.dumps({"identity": dict(identity)}) + "\n")
    (folder / RECORD).unlink(missing_ok=True)  # what it spoke of is about to be replaced
    return Claim(folder, finished=False)


def write_record(folder: Path, *, identity: Mapping[str, Any], **facts: Any) -> Path:
    """Write the record that marks a result as finished; the last file of a result.

    Args:
        facts: More to keep beside it: machine, figures; `files`: names, without which the
            result is not whole.
    """
    path = folder / RECORD
    record = {"identity": _with_plugins(identity), **facts}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
    (folder / STARTED).unlink(missing_ok=True)
    return path


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a finished result."""
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


def _with_plugins(identity: Mapping[str, Any]) -> dict[str, Any]:
    found = plugins.hashes()
    whole = {**identity, "plugins": found} if found else dict(identity)
    return json.loads(json.dumps(whole))  # as it is read back: tuples are lists


def _identity_in(folder: Path) -> Mapping[str, Any] | None:
    """What made the result in a folder, finished or not; None where the folder is free."""
    for name in (RECORD, STARTED):
        try:
            return json.loads((folder / name).read_text(encoding="utf-8"))["identity"]
        except FileNotFoundError:
            continue
        except (NotADirectoryError, ValueError, KeyError, TypeError):  # not JSON, not text
            return _FOREIGN
    return _FOREIGN if folder.exists() and any(folder.iterdir()) else None
