"""Which teacher a weight file belongs to: told by its tensors, not by its name."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    found: dict[str, Any] = {}  # sizes of the network, where the tensors are the teacher's
    for name in teachers:
        cost = teachers[name].cost
        with suppress(KeyError):
            if cost is not None and (size := cost.read(tensors)):
                found[name] = size
    if not found:
        return None
    trained = _SQUARE.search(describe_checkpoint(file))

    def fits(name: str) -> tuple[bool, bool, bool]:
        record = teachers[name]
        assert record.cost is not None
        side = max(record.fit.long_edge or 0, record.fit.width or 0)
        return (
            record.cost.published == found[name],
            trained is not None and int(trained[1]) == side,
            "NC" in record.licenses[0],
        )

    # Of equals the first: with the same sizes and license, the larger input.
    best = max(found, key=fits)
    return teachers[best], file


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
