"""Which teacher a weight file belongs to: told by its tensors, not by its name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distill3r_core.registry import Registry
from distill3r_core.teachers.official_files import (
    SAFETENSORS,
    describe_checkpoint,
    read_shapes,
)
from distill3r_core.teachers.record import TeacherRecord

_PICKLES = (".pth", ".pt")  # a student's are `.ckpt`, which Lightning wrote
_SQUARE = re.compile(r"img_size\W+(\d+)")


def recognize_teacher(
    path: Path, teachers: Registry[TeacherRecord]
) -> tuple[TeacherRecord, Path] | None:
    """The teacher whose weights a folder or a file holds, and the file with the tensors.

    Of releases with the same tensors the one is taken whose published sizes fit; where none does or
    several do, that with the stricter license. So a VGGT file counts as the non-commercial one.

    Args:
        path: A hub folder, or a file of it.
        teachers: Those that are asked, in order.

    Returns:
        None where it is no teacher's.

    Raises:
        WeightsError: The file is damaged, or holds objects.
    """
    file = _tensor_file(path, teachers)
    if file is None:
        return None
    tensors = read_shapes(file)
    found = [(name, size) for name in teachers if (size := _size_of(teachers[name], tensors))]
    if not found:
        return None
    trained = _SQUARE.search(describe_checkpoint(file))

    def fits(name: str, size: Any) -> tuple[bool, bool, bool]:
        record = teachers[name]
        assert record.cost is not None
        side = max(record.fit.long_edge or 0, record.fit.width or 0)
        return (
            record.cost.published == size,
            trained is not None and int(trained[1]) == side,
            "NC" in record.licenses[0],
        )

    # Of equals the first: with the same sizes and license, the larger input.
    name, _ = max(found, key=lambda one: fits(*one))
    return teachers[name], file


def _tensor_file(path: Path, teachers: Registry[TeacherRecord]) -> Path | None:
    """The file with the tensors, if a folder or a file may be a teacher's."""
    if path.is_file():
        return path if path.suffix in (SAFETENSORS, *_PICKLES) else None
    names = {
        file
        for name in teachers
        if (weights := teachers[name].weights) is not None
        for file in weights.tensor_files
    }
    return next((path / name for name in sorted(names) if (path / name).is_file()), None)


def _size_of(record: TeacherRecord, tensors: Mapping[str, Tensor]) -> Any:
    """Sizes of the network, if the tensors are this teacher's; else None."""
    if record.cost is None:
        return None
    try:
        return record.cost.read(tensors)
    except KeyError:
        return None
