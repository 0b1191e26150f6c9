"""Checksums of files, and JSON files that carry their own: a checkpoint's state, a run's record."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill3r_core.errors import DamageError
from distill3r_core.files import name_fault, open_file, read_own, shown_name, write_text

STATE = "state.json"
RUN_RECORD = "run.json"  # of a run: its identity, whether it is finished, figures
FILES = "files"  # its key for the checksums, by the file's name
OWNER = "owner"  # key of a checkpoint's state and of a run's record: whose they are
ORIGIN = "run"  # key of a checkpoint's state for what a lost record is made of
_OWN = "checksum"  # its key for its own


def file_hash(path: Path) -> str:
    """BLAKE2b-128 of a file, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, _blake).hexdigest()


def bytes_hash(data: bytes) -> str:
    """BLAKE2b-128 of bytes, in hexadecimal."""
    return _blake(data).hexdigest()


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with its own checksum, durably and in one rename."""
    text = {**values, _OWN: _text_hash(values)}
    write_text(path, json.dumps(text, indent=2, ensure_ascii=False) + "\n", durable=True)


def read_sealed(path: Path, *, required: bool = True) -> dict[str, Any]:
    """The object that `write_sealed` wrote.

    Args:
        required: Whether a file without a checksum counts as damaged.

    Raises:
        FileNotFoundError: There is no such file.
        DamageError: It is not what was written.
    """
    try:
        values = json.loads(read_own(path))
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(values, dict):
        raise DamageError(f"{path} is damaged: it holds no object")
    written = values.pop(_OWN, None)
    if (required or written is not None) and written != _text_hash(values):
        raise DamageError(f"{path} is damaged: its checksum is wrong")
    return values


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a folder's state, with its own checksum, durably and in one rename."""
    write_sealed(folder / STATE, state)


def read_state(folder: Path) -> dict[str, Any]:
    """A folder's state, if it is what was written.

    Raises:
        DamageError: It is not, or not there, or it does not say which files it vouches for.
    """
    path = folder / STATE
    try:
        state = read_sealed(path)
    except FileNotFoundError as error:
        raise DamageError(f"{path} is missing: it has the checksums of the files") from error
    except OSError as error:
        raise DamageError(f"{path} cannot be read: {error}") from error
    files = state.get(FILES)
    if not isinstance(files, dict):
        raise DamageError(f"{path} is damaged: it lacks its files")
    for name, checksum in files.items():
        if not isinstance(checksum, str) or "/" in name or name_fault(name) is not None:
            raise DamageError(f"{path} is damaged: it names {shown_name(name)}")
    return state


def check_file(path: Path, state: Mapping[str, Any]) -> None:
    """Compare a file with what the state beside it says of it.

    Raises:
        DamageError: It is missing, is not what was written, or the state does not know it.
    """
    expected = state[FILES].get(path.name)
    if expected is None:
        raise DamageError(f"{path.parent / STATE} is damaged: it lacks {path.name}")
    if not path.is_file():
        raise DamageError(f"{path} is missing")
    if file_hash(path) != expected:
        raise DamageError(f"{path} is damaged: its checksum is wrong")


def check_owner(checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Compare a checkpoint with the record of the run in whose folder it lies.

    A run without a sound record, and a checkpoint outside of a run, are not compared.

    Raises:
        DamageError: Another run wrote it.
    """
    folder = checkpoint.resolve()
    try:
        record = read_sealed(folder.parent.parent / RUN_RECORD, required=False)
    except (OSError, DamageError):
        return
    owner, writer = record.get(OWNER), state.get(OWNER)
    if owner and writer and owner != writer:
        raise DamageError(f"{checkpoint} is a checkpoint of another run")


def _text_hash(state: Mapping[str, Any]) -> str:
    return _blake(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _blake(data: bytes = b"") -> Any:  # hashlib's objects have no public type
    return hashlib.blake2b(data, digest_size=16)
