"""The pair study, in its smallest form: its cells, and the teacher's own row."""

import json
from pathlib import Path

import pytest

from distill3r_core.benchmarks.pairs import PairStudySettings, bench_pairs
from distill3r_core.benchmarks.pairs.pair_cells import CELLS, STUDY
from distill3r_core.config import validate
from distill3r_core.errors import ConfigError

TINY = {
    "seeds": 1,
    "steps": 2,
    "teacher_steps": 2,
    "batch": 2,
    "size": (32, 48),
    "scenes": 1,
    "frames": 6,
    "every": 3,
}


def test_every_cell_trains_a_student_that_is_compared_with_the_first(tmp_path: Path) -> None:
    settings = validate(PairStudySettings, {**TINY, "output": tmp_path / "s"}, source="a test")
    result = bench_pairs(settings).result
    assert [row["cell"] for row in result["rows"]] == list(STUDY)
    assert [row["cell"] for row in result["paired"]] == [name for name in STUDY if name != "none"]
    assert result["teacher"]["global_error"] > 0
    halved = {row["cell"]: row["parameters"] for row in result["rows"]}
    assert halved["encoder-halved"] == pytest.approx(halved["decoder-halved"], rel=0.1)


def test_the_study_has_at_most_eight_cells_and_each_is_another_student() -> None:
    assert len(STUDY) <= 8
    assert len({json.dumps({**vars(cell), "summary": ""}) for cell in CELLS.values()}) == len(CELLS)
    with pytest.raises(ConfigError, match="twice"):
        validate(PairStudySettings, {"cells": ("none", "none")}, source="a test")
