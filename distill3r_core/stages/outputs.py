"""Where a result goes, and what is done about the one that lies there already."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill3r_core import config
from distill3r_core.errors import ConflictError
from distill3r_core.io.files import write_text

RECORD = "run.json"  # in every result folder: identity, machine, figures


@dataclass(frozen=True)
class Claim:
    """A folder for a result.

    Args:
        folder: Where it goes.
        finished: The same result is there already; nothing is to be done.
    """

    folder: Path
    finished: bool


def claim(
    default: Path, *, chosen: Path | None, identity: Mapping[str, Any], overwrite: bool
) -> Claim:
    """The folder for a result.

    Args:
        default: Used where none is chosen; if it holds another result, `-2`, `-3` ... is appended.
        chosen: The folder that the user named.
        identity: All that changes the result (settings, inputs with their hashes), as plain data.
        overwrite: Replace another result in `chosen`.

    Raises:
        ConflictError: `chosen` holds something else.
    """
    if chosen is None:
        number = 1
        folder = default
        while (found := _identity_in(folder)) not in (None, identity):
            number += 1
            folder = default.with_name(f"{default.name}-{number}")
        return Claim(folder, finished=found is not None)
    found = _identity_in(chosen)
    if found == identity:
        return Claim(chosen, finished=True)
    if found is not None and not overwrite:
        lines = config.differences(found, identity) or ["it holds other files"]
        raise ConflictError(
            f"{chosen} holds another result:\n" + "\n".join(f"  {line}" for line in lines),
            hint="choose another folder with -o, or replace it with --overwrite",
        )
    return Claim(chosen, finished=False)


def write_record(folder: Path, *, identity: Mapping[str, Any], **facts: Any) -> Path:
    """Write the record that marks a result as finished; the last file of a result.

    Args:
        folder: Of the result.
        identity: What `claim` was given.
        facts: More to keep beside it: machine, figures, files.
    """
    path = folder / RECORD
    text = json.dumps({"identity": dict(identity), **facts}, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")
    return path


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a finished result."""
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


def _identity_in(folder: Path) -> Mapping[str, Any] | None:
    """What made the result in a folder; None where it is free; {} where something else is there."""
    try:
        return read_record(folder)["identity"]
    except FileNotFoundError:
        return {} if folder.exists() and any(folder.iterdir()) else None
    except NotADirectoryError:
        return {}
    except (json.JSONDecodeError, KeyError, TypeError):
        return {}
