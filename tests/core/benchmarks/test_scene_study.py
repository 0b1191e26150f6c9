"""The scene study, in its smallest form: cells, resumption, one's own scene, pretraining."""

import json
from pathlib import Path

import pytest
from small_caches import write_cache

from distill3r_core.benchmarks.scenes import SceneStudySettings, bench_scenes
from distill3r_core.benchmarks.scenes.scene_cells import CELLS, STUDY
from distill3r_core.config import validate
from distill3r_core.errors import ConfigError, ConflictError
from distill3r_core.models import load_student
from distill3r_core.report import Silent

TINY = {
    "seeds": 1,
    "steps": 2,
    "pretrain_steps": 2,
    "scenes": 2,
    "frames": 10,
    "size": (28, 42),
    "cells": ("vit-16", "no-attention", "pretrained", "frozen"),
}


class Impatient(Silent):
    """Interrupts when something is said that begins so."""

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning

    def note(self, text: str) -> None:
        if text.startswith(self.beginning):
            raise KeyboardInterrupt


def study(folder: Path, **changes: object) -> SceneStudySettings:
    return validate(SceneStudySettings, {**TINY, "output": folder, **changes}, source="a test")


def figures(found: dict) -> str:
    rows = [{k: v for k, v in row.items() if k != "seconds_an_image"} for row in found["rows"]]
    return json.dumps(rows)


def test_every_cell_trains_a_student_and_finished_ones_are_kept(tmp_path: Path) -> None:
    result = bench_scenes(study(tmp_path / "s")).result
    assert [row["cell"] for row in result["rows"]] == list(TINY["cells"])
    assert [row["cell"] for row in result["paired"]] == list(TINY["cells"][1:])
    assert result["views"] == 2  # every fifth of ten frames
    # In cm, as `eval` has them.
    scored = json.loads(
        next((tmp_path / "s").glob("parts-*/vit-16-0/eval/result.json")).read_text()
    )
    assert scored["units"]["location_median"] == "cm"
    nearest = scored["baselines"]["nearest_frame"]["location_median"]
    assert result["nearest"]["location"] == nearest
    report = bench_scenes(study(tmp_path / "s"))  # it is finished: shown again
    assert report.tables[0].rows[-1][1] == f"{nearest:.1f}"
    for row in result["rows"]:
        assert row["mean"]["mse_metric"] > 0
        assert row["seconds_an_image"] > 0
    # What is frozen is that of the student that other rooms have taught.
    (parts,) = (tmp_path / "s").glob("parts-*")
    taught = load_student(parts / "pretraining-0" / "run").state_dict()
    kept = load_student(parts / "frozen-0" / "run").state_dict()
    blocks = [name for name in kept if name.startswith("network.blocks")]
    assert blocks and all((kept[name] == taught[name]).all() for name in blocks)
    assert any((kept[name] != taught[name]).any() for name in kept if name not in blocks)

    other = study(tmp_path / "o")
    with pytest.raises(KeyboardInterrupt):
        bench_scenes(other, progress=Impatient("pretrained, seed 0"))
    kept_files = {path.parent.name: path for path in (tmp_path / "o").glob("*/*/outcome.json")}
    assert sorted(kept_files) == ["no-attention-0", "vit-16-0"]
    written = kept_files["no-attention-0"].stat().st_mtime_ns
    assert figures(bench_scenes(other).result) == figures(result)
    assert kept_files["no-attention-0"].stat().st_mtime_ns == written


def test_other_settings_go_on_with_nothing_that_was_made_for_these(tmp_path: Path) -> None:
    first = study(tmp_path, cells=("vit-16",))
    assert bench_scenes(first).result["views"] == 2
    longer = study(tmp_path, cells=("vit-16",), frames=15, size=(42, 56))
    with pytest.raises(ConflictError):
        bench_scenes(longer)
    assert bench_scenes(longer, overwrite=True).result["views"] == 3


def test_all_other_cells_can_be_trained(tmp_path: Path) -> None:
    others = tuple(name for name in CELLS if name not in TINY["cells"])
    rows = bench_scenes(study(tmp_path, cells=others, size=(64, 64))).result["rows"]
    assert [row["cell"] for row in rows] == list(others)
    assert len({row["parameters"] for row in rows}) == len(rows)


def test_a_cache_of_several_scenes_wants_a_name(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    with pytest.raises(ConfigError, match="learns one scene"):
        bench_scenes(study(tmp_path / "out", cache=cache, cells=("vit-16",)))


def test_the_study_has_at_most_eight_cells_and_each_is_another_student() -> None:
    assert len(STUDY) <= 8
    assert len({json.dumps({**vars(cell), "summary": ""}) for cell in CELLS.values()}) == len(CELLS)
    with pytest.raises(ConfigError, match="twice"):
        study(Path(), cells=("no-attention", "no-attention"))
    with pytest.raises(ConfigError, match="scene"):
        study(Path(), scene="kitchen")
