"""Where a result goes, and what is done about the one that lies there already."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core import config, plugins
from distill3r_core.errors import ConflictError, DamageError
from distill3r_core.files import name_fault, open_own, remove_leftovers
from distill3r_core.io.checksums import read_sealed, write_sealed

RECORD = "run.json"  # in every result folder: identity, machine, figures
STARTED = ".started.json"  # until the record is there: whose half-written result this is

_ELSEWHERE = "choose another folder with -o, or replace it with --overwrite"
_FOREIGN = {"folder": "holds other files"}  # an identity that no result has

# Results that this process is at: descriptors of their STARTED files, which are locked.
_held: dict[Path, int] = {}


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
        ConflictError: `chosen` holds something else, or another process is at it.
    """
    identity = _with_plugins(identity)
    if chosen is None:
        number, folder = 1, default
        while _is_taken(folder, identity):
            number += 1
            folder = default.with_name(f"{default.name}-{number}")
        return _taken(folder, identity)
    for place in (chosen, *chosen.parents):
        if place.exists() and not place.is_dir():
            raise ConflictError(f"{place} is a file", hint="choose another folder with -o")
    if not overwrite and (chosen / RECORD).exists():
        try:
            read_record(chosen)
        except DamageError as error:
            raise ConflictError(
                f"{chosen} holds other files, or a damaged result: {error.message}", hint=_ELSEWHERE
            ) from error
    found = _identity_in(chosen)
    begun_only = chosen.is_dir() and [path.name for path in chosen.iterdir()] == [STARTED]
    if found not in (None, identity) and not (overwrite or begun_only):
        if found == _FOREIGN:
            raise ConflictError(f"{chosen} holds other files", hint=_ELSEWHERE)
        lines = "\n".join(f"  {line}" for line in config.differences(found or {}, identity))
        raise ConflictError(f"{chosen} holds another result:\n{lines}", hint=_ELSEWHERE)
    return _taken(chosen, identity)


def _taken(folder: Path, identity: Mapping[str, Any]) -> Claim:
    if (folder / RECORD).is_file() and _identity_in(folder) == identity:
        files = read_record(folder).get("files", [])
        if all((folder / name).exists() for name in files):
            return Claim(folder, finished=True)
    folder.mkdir(parents=True, exist_ok=True)
    _hold(folder, identity)
    remove_leftovers(folder)
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
    write_sealed(path, json.loads(json.dumps(record, allow_nan=False)))
    (folder / STARTED).unlink(missing_ok=True)
    _let_go(folder)
    return path


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a finished result.

    Raises:
        DamageError: It is not what was written, or no record.
    """
    path = folder / RECORD
    record = read_sealed(path, required=False)  # earlier versions wrote no checksum
    files = record.get("files", [])
    if not isinstance(record.get("identity"), dict) or not isinstance(files, list):
        raise DamageError(f"{path} is damaged: it is no record of a result")
    if not all(isinstance(name, str) and name_fault(name) is None for name in files):
        raise DamageError(f"{path} is damaged: it names files that are not below its folder")
    return record


def _hold(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write whose half-written result this is, and keep other processes out until it is written.

    Raises:
        ConflictError: Another process is at it.
    """
    _let_go(folder)  # an attempt of this process that failed
    path = folder / STARTED
    while True:
        descriptor = open_own(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConflictError(
                f"another process is writing a result to {folder}",
                hint="wait for it, or choose another folder with -o",
            ) from error
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            break
        os.close(descriptor)  # whoever held it has just finished and removed it
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps({"identity": dict(identity)}) + "\n").encode(), 0)
    _held[folder.resolve()] = descriptor


def _let_go(folder: Path) -> None:
    descriptor = _held.pop(folder.resolve(), None)
    if descriptor is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # for children that have inherited it as well
        os.close(descriptor)


def _is_taken(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether a folder holds another result, or another process is at it."""
    if _identity_in(folder) not in (None, identity):
        return True
    path = folder / STARTED
    if not path.exists() or folder.resolve() in _held:
        return False
    descriptor = open_own(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _with_plugins(identity: Mapping[str, Any]) -> dict[str, Any]:
    found = plugins.hashes()
    whole = {**identity, "plugins": found} if found else dict(identity)
    return json.loads(json.dumps(whole))  # as it is read back: tuples are lists


def _identity_in(folder: Path) -> Mapping[str, Any] | None:
    """What made the result in a folder, finished or not; None where the folder is free."""
    for name in (RECORD, STARTED):
        try:
            return read_sealed(folder / name, required=False)["identity"]
        except FileNotFoundError:
            continue
        except (NotADirectoryError, DamageError, KeyError):
            if name == STARTED and [path.name for path in folder.iterdir()] == [STARTED]:
                return None  # a kill between its making and its writing
            return _FOREIGN
    return _FOREIGN if folder.exists() and any(folder.iterdir()) else None
