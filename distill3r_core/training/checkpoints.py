"""Checkpoints of a run: written whole or not at all, checked when they are read.

`checkpoints/` holds a folder per kept step; `last` and `best` are links into it, so that either
changes in one rename. The state file carries the checksums of the others and its own.
"""

import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill3r_core.errors import ConflictError, DamageError, WeightsError
from distill3r_core.files import (
    is_there,
    read_own,
    read_text_file,
    remove_own,
    replacing,
    write_text,
)
from distill3r_core.io.checksums import (
    FILES,
    OWNER,
    STATE,
    check_file,
    file_hash,
    read_state,
    write_state,
)
from distill3r_core.io.weights import read_pickled
from distill3r_core.system.disk import disk_errors

FOLDER = "checkpoints"
MODEL, OPTIMIZER = "model.safetensors", "optimizer.pt"
LAST, BEST = "last", "best"
_MICRO_BATCH = "micro-batch.txt"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has passed its checksums."""

    folder: Path
    step: int
    state: Mapping[str, Any]  # everything else that was kept as plain data

    @property
    def model(self) -> Path:
        """The student's weights with all that `infer` needs."""
        return self.folder / MODEL

    def optimizer(self) -> dict[str, Any]:
        """The optimizer's and the random numbers' state.

        Raises:
            DamageError: It is not what was written, or would run code.
        """
        try:
            content = read_pickled(self.folder / OPTIMIZER, mapped=False)
        except WeightsError as error:
            raise DamageError(error.message) from error
        if not isinstance(content, dict):
            raise DamageError(f"{self.folder / OPTIMIZER} is damaged: it holds no optimizer")
        return content


def save(
    run: Path,
    *,
    step: int,
    save_model: Callable[[Path], None],
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a step and make it the last one.

    Args:
        optimizer: Tensors and plain data for torch to save.

    Raises:
        DiskFullError: There is no room; the checkpoints that were there are untouched.
    """
    folder = _folder(run, step)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    beside.mkdir(parents=True)
    try:
        with disk_errors(folder):
            save_model(beside / MODEL)
            with replacing(beside / OPTIMIZER, durable=True) as path:
                # By way of memory: torch's own file writer hides that the disk is full.
                buffer = io.BytesIO()
                torch.save(dict(optimizer), buffer)
                path.write_bytes(buffer.getvalue())
            files = {name: file_hash(beside / name) for name in (MODEL, OPTIMIZER)}
            write_state(beside, {"step": step, **state, FILES: files})
            if folder.exists():  # damaged, or left by a run that has been taken back
                shutil.rmtree(folder)
            beside.rename(folder)
            link(run, LAST, step)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def save_state(run: Path, *, step: int, state: Mapping[str, Any]) -> None:
    """Write the plain data of a step's checkpoint anew, in one rename."""
    folder = _folder(run, step)
    with disk_errors(folder):
        kept = json.loads(read_text_file(folder / STATE))
        write_state(folder, {"step": step, **state, FILES: kept[FILES]})


def link(run: Path, name: str, step: int) -> None:
    """Make `name` (last, best) the checkpoint of a step."""
    path = run / FOLDER / name
    beside = path.with_name(f".{name}.{os.getpid()}.partial")
    beside.unlink(missing_ok=True)
    beside.symlink_to(_folder(run, step).name)
    beside.replace(path)


def link_best(run: Path, step: int) -> bool:
    """Make the checkpoint of a step the best one, if it is still there; else there is no best."""
    if _folder(run, step).is_dir():
        link(run, BEST, step)
        return True
    (run / FOLDER / BEST).unlink(missing_ok=True)
    return False


def prune(run: Path, *, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints and those that `last` and `best` are."""
    linked = {
        (run / FOLDER / name).resolve().name
        for name in (LAST, BEST)
        if (run / FOLDER / name).exists()
    }
    for folder in _folders(run)[keep:]:
        if folder.name not in linked:
            shutil.rmtree(folder)


def newest(run: Path, *, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None where none was ever written.

    Args:
        warn: Called with a message for each damaged checkpoint.

    Raises:
        DamageError: There are checkpoints, and all of them are damaged; it names each.
    """
    damaged = list[str]()
    for folder in _folders(run):
        try:
            return read(folder)
        except DamageError as error:
            warn(f"warning: {error.message}; taking the checkpoint before it")
            damaged.append(error.message)
    if damaged:
        # Nothing is made again of a lost state: it holds the checksums of the weights.
        raise DamageError(
            f"every checkpoint in {run / FOLDER} is damaged: {'; '.join(damaged)}",
            hint="put a copy of a checkpoint there, or start anew: `distill3r train --overwrite "
            f"-o {run}`",
        )
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint whose checksums are right.

    Raises:
        DamageError: It is not what was written.
    """
    state = read_state(folder)
    step = state.get("step")
    if type(step) is not int or step < 0:
        raise DamageError(f"{folder / STATE} is damaged: it lacks its step")
    for name in {MODEL, OPTIMIZER, *state[FILES]}:
        check_file(folder / name, state)
    return Checkpoint(folder.resolve(), step, state)


def refuse_foreign(run: Path, owner: str) -> None:
    """Refuse a run among whose checkpoints is one of another run.

    Checkpoints of earlier versions name no owner, and damaged ones are left to `newest`.

    Raises:
        ConflictError: One was written by another run; names it.
    """
    for folder in _folders(run):
        try:
            found = read_state(folder).get(OWNER)
        except DamageError:
            continue
        if found not in (None, owner):
            raise ConflictError(
                f"{folder} is a checkpoint of another run", hint=f"move it out of {run / FOLDER}"
            )


def steps_of(run: Path) -> tuple[int, ...]:
    """Steps of which a run has checkpoints, the newest first."""
    return tuple(int(folder.name[5:]) for folder in _folders(run))


def write_micro_batch(run: Path, samples: int) -> None:
    """Note for the next start that this many samples at once fit into memory."""
    text = str(samples)
    write_text(run / FOLDER / _MICRO_BATCH, f"{text} {_crc(text)}\n", durable=True)


def read_micro_batch(run: Path, *, warn: Callable[[str], None]) -> int | None:
    """The number that `write_micro_batch` wrote, if any.

    Args:
        warn: Called with a message if the file is damaged. Checkpoints know a number as well.
    """
    path = run / FOLDER / _MICRO_BATCH
    if not is_there(path):
        return None
    samples, _, checksum = read_own(path).decode(errors="replace").partition(" ")
    if checksum.strip() != _crc(samples) or not re.fullmatch("[1-9][0-9]{0,8}", samples):
        warn(f"warning: {path} is damaged, and left out")
        path.unlink()
        return None
    return int(samples)


def remove_leftovers(run: Path) -> None:
    """Remove what a killed process left half-written."""
    for path in (run / FOLDER).glob(".*.partial"):
        remove_own(path)


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _folder(run: Path, step: int) -> Path:
    return run / FOLDER / f"step-{step:06d}"


def _folders(run: Path) -> list[Path]:
    """Checkpoint folders, the newest first."""
    folders = [path for path in (run / FOLDER).glob("step-*") if path.name[5:].isdecimal()]
    return sorted(folders, key=lambda path: int(path.name[5:]), reverse=True)
