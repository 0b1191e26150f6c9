"""Parameters and megabytes of students in README's table, against the students themselves."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from distill3r_core.config_files import read_files
from distill3r_core.models.build import build_from_spec
from distill3r_core.models.families import preset_spec
from distill3r_core.models.presets import PRESETS

README = Path(__file__).parents[3] / "README.md"
HEADING = "| preset | family | parameters, float32 |"
SIZE = r"([\d.]+)M, (\d+) MB"


def documented() -> list[tuple[str, dict[str, Any], tuple[str, str]]]:
    """Preset, what is changed of it, and its size as it stands on the page."""
    _, table = README.read_text(encoding="utf-8").split(HEADING)
    found = []
    for row in table.split("\n\n")[0].splitlines()[2:]:
        cells = [cell.strip() for cell in row.strip("| ").split(" | ")]
        first, *rest = re.findall(r"`([\w-]+)`", cells[0])
        if "…" in cells[0]:  # "`lunar-s1` … `lunar-s4`": one size each
            stem = first.rstrip("0123456789")
            names = [f"{stem}{number}" for number in range(1, int(rest[-1][len(stem) :]) + 1)]
            sizes = [(name, "") for name in names]
        else:
            sizes = [(first, label) for label in re.split(SIZE, cells[2])[:-1:3]]
        parts = re.findall(SIZE, cells[2])
        found += [
            (name, changes_of(label), size)
            for (name, label), size in zip(sizes, parts, strict=True)
        ]
        found += [  # in words, elsewhere in the row
            (name, {}, (count, megabytes))
            for name, count, megabytes in re.findall(rf"`([\w-]+)` \({SIZE}\)", row)
        ]
    return found


def changes_of(label: str) -> dict[str, Any]:
    """What stands before a size: nothing, a configuration, or a patch."""
    if config := re.search(r"--config ([\w-]+)", label):
        (file,) = read_files("train", config[1])
        return dict(file.values["model"])
    if patch := re.search(r"`patch: (\d+)`", label):
        return {"network": {"patch": int(patch[1])}}
    assert not label.strip("; "), f"not understood: {label!r}"
    return {}


@pytest.mark.parametrize(("preset", "changes", "size"), documented(), ids=str)
def test_a_student_has_the_documented_size(preset, changes, size) -> None:
    with torch.device("meta"):
        student = build_from_spec(preset_spec(preset, changes))
    count = sum(parameter.numel() for parameter in student.parameters())
    millions, megabytes = size
    _, _, decimals = millions.partition(".")
    assert f"{count / 1e6:.{len(decimals)}f}" == millions, count
    assert f"{4 * count / 1e6:.0f}" == megabytes, count


def test_every_preset_has_a_documented_size() -> None:
    names = [preset for preset, _, _ in documented()]
    assert set(names) == set(PRESETS)
    assert len(names) == 14
