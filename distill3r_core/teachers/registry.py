"""Teachers by name: those of this package, of other packages, and of plugins."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from distill3r_core.errors import ConfigError, WeightsError
from distill3r_core.registry import Registry
from distill3r_core.teachers.base import Teacher
from distill3r_core.teachers.da3.teacher import DA3_BASE, DA3_LARGE, DA3_SMALL
from distill3r_core.teachers.depth import DEPTH
from distill3r_core.teachers.fast3r import FAST3R
from distill3r_core.teachers.pairwise.teacher import (
    DUST3R_224_LINEAR,
    DUST3R_512_DPT,
    DUST3R_512_LINEAR,
    MAST3R,
)
from distill3r_core.teachers.pi3.teacher import PI3
from distill3r_core.teachers.record import FrameFacts, TeacherNeeds, TeacherRecord
from distill3r_core.teachers.synthetic import SYNTHETIC
from distill3r_core.teachers.vggt.teacher import VGGT_1B
from distill3r_core.teachers.weights import require_weights

__all__ = [
    "AUTO",
    "AUTOMATIC",
    "TEACHERS",
    "TeacherNeeds",
    "TeacherRecord",
    "build_teacher",
    "choose_teacher",
    "find_weights",
    "teacher_names",
]

AUTO = "auto"  # the first of `AUTOMATIC` whose needs the data meet
TEACHERS: Registry[TeacherRecord] = Registry("teacher", entry_points="distill3r.teachers")
for _record in (
    DEPTH,
    SYNTHETIC,
    FAST3R,
    DA3_SMALL,
    DA3_BASE,
    DA3_LARGE,
    VGGT_1B,
    PI3,
    MAST3R,
    DUST3R_512_DPT,
    DUST3R_512_LINEAR,
    DUST3R_224_LINEAR,
):
    TEACHERS.add(_record.name, _record)
AUTOMATIC = (DEPTH, DA3_SMALL)


def build_teacher(
    teacher: str | TeacherRecord,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    **settings: Any,
) -> Teacher:
    """Build a teacher that is ready to predict.

    Args:
        teacher: Its name (see `teacher_names`), or a record that is in no registry.
        weights: Folder or file of its weights; None: where `models download` puts them.
        device: Where it predicts.
        settings: The teacher's own settings, such as `seed`.

    Raises:
        ConfigError: There is no such teacher, or it does not have these settings or weights.
        WeightsError: Its weights are missing or are not the file they should be.
    """
    record = TEACHERS[teacher] if isinstance(teacher, str) else teacher
    own = record.read_settings(settings)
    path = None if weights is None else Path(weights).expanduser()
    if record.weights is None and not record.given_weights and path is not None:
        raise ConfigError(f"the teacher {record.name!r} has no weights, and {path} was given")
    return record.build(own, find_weights(record, path), torch.device(device))


def find_weights(
    record: TeacherRecord, weights: Path | None = None, *, as_model: bool = False
) -> Path | None:
    """Find the weights that a teacher will read; see `require_weights`.

    Raises:
        WeightsError: They are not there; says which file goes where, and what works without.
    """
    if record.given_weights:
        if weights is None or not weights.exists():
            lacks = "none is named" if weights is None else f"there is no {weights}"
            raise WeightsError(
                f"the teacher {record.name!r} is {record.given_weights}, and {lacks}",
                hint="name it in place of the teacher: -m PATH"
                if as_model
                else "--weights PATH; of features in `train`: --set features.weights=PATH",
            )
        return weights
    return require_weights(record.weights, weights, dry_run=SYNTHETIC.name, as_model=as_model)


def teacher_names() -> list[str]:
    """Every name that `build_teacher` knows."""
    return list(TEACHERS)


def choose_teacher(frames: Iterable[FrameFacts]) -> TeacherRecord:
    """The teacher that `auto` stands for: the first one whose needs all frames meet."""
    frames = list(frames)
    for record in AUTOMATIC[:-1]:
        if frames and not any(record.needs.lacking(frame) for frame in frames):
            return record
    return AUTOMATIC[-1]
