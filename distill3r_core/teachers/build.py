"""Teachers by name: those of this package, and those that other packages announce."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distill3r_core.errors import ConfigError
from distill3r_core.registry import Registry
from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.depth import DepthTeacher
from distill3r_core.teachers.fast3r import build_fast3r
from distill3r_core.teachers.synthetic import SyntheticTeacher
from distill3r_core.teachers.weights import require_weights

# Takes the weights that the user named or None, the device, and its own arguments by keyword.
Builder = Callable[..., Teacher]


def build_teacher(
    name: str,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    **overrides: Any,
) -> Teacher:
    """The teacher called `name`, ready to predict.

    Args:
        name: See `teacher_names`.
        weights: Folder or file of its weights; None: where `models download` puts them.
        device: Where it predicts.
        overrides: Arguments of the teacher's own, as `seed`.

    Raises:
        ConfigError: No such teacher, or it knows no such override.
        WeightsError: Its weights are missing or are not the file they should be.
    """
    builder = TEACHERS[name]
    path = None if weights is None else Path(weights).expanduser()
    try:
        inspect.signature(builder).bind(path, torch.device(device), **overrides)
    except TypeError as error:
        raise ConfigError(f"cannot build the teacher {name!r}: {error}") from error
    return builder(path, torch.device(device), **overrides)


def check_teacher(name: str) -> None:
    """Know a name.

    Raises:
        ConfigError: No teacher has it.
    """
    TEACHERS[name]


def teacher_names() -> list[str]:
    """Every name that `build_teacher` knows."""
    return list(TEACHERS)


def _depth(weights: Path | None, device: torch.device) -> Teacher:
    _refuse(weights, "depth")
    return DepthTeacher()


def _synthetic(weights: Path | None, device: torch.device, *, seed: int = 0) -> Teacher:
    _refuse(weights, "synthetic")
    return SyntheticTeacher(seed=seed)


def _fast3r(
    weights: Path | None,
    device: torch.device,
    *,
    precision: str = "auto",
    view_codes: str = "config",
    seed: int = 0,
) -> Teacher:
    found = require_weights("fast3r", weights)
    assert found is not None
    return build_fast3r(found, device, precision=precision, view_codes=view_codes, seed=seed)


def _refuse(weights: Path | None, name: str) -> None:
    if weights is not None:
        raise ConfigError(f"the teacher {name!r} has no weights, and {weights} was given")


TEACHERS: Registry[Builder] = Registry("teacher", entry_points="distill3r.teachers")
TEACHERS.add("depth", _depth)
TEACHERS.add("synthetic", _synthetic)
TEACHERS.add("fast3r", _fast3r)
