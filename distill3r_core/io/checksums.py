"""Checksums of files, and the state file in which a checkpoint vouches for those beside it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill3r_core.errors import DamageError
from distill3r_core.files import write_text

STATE = "state.json"
FILES = "files"  # its key for the checksums, by the file's name
_OWN = "checksum"  # its key for its own


def file_hash(path: Path) -> str:
    """BLAKE2b-128 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, _blake).hexdigest()


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a folder's state, with its own checksum, durably and in one rename."""
    text = {**state, _OWN: _text_hash(state)}
    write_text(folder / STATE, json.dumps(text, indent=2) + "\n", durable=True)


def read_state(folder: Path) -> dict[str, Any]:
    """A folder's state, if it is what was written.

    Raises:
        DamageError: It is not, or not there.
    """
    path = folder / STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamageError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict):
        raise DamageError(f"{path} is not the state of a checkpoint")
    written = state.pop(_OWN, None)
    if written != _text_hash(state):
        raise DamageError(f"{path} is damaged: its checksum is wrong")
    return state


def check_file(path: Path, state: Mapping[str, Any]) -> None:
    """Compare a file with what the state beside it says of it, if it says something.

    Raises:
        DamageError: It is missing, or is not what was written.
    """
    expected = state[FILES].get(path.name)
    if expected is None:
        return
    if not path.is_file():
        raise DamageError(f"{path} is missing")
    if file_hash(path) != expected:
        raise DamageError(f"{path} is damaged: its checksum is wrong")


def _text_hash(state: Mapping[str, Any]) -> str:
    return _blake(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _blake(data: bytes = b"") -> Any:  # hashlib's objects have no public type
    return hashlib.blake2b(data, digest_size=16)
