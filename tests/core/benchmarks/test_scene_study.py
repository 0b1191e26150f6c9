"""The scene study, in its smallest form: cells, resumption, one's own scene, pretraining."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_caches import write_cache

from distill3r_core.benchmarks.scenes import SceneStudySettings, bench_scenes, scene_trial
from distill3r_core.benchmarks.scenes.scene_cells import CELLS, STUDY
from distill3r_core.benchmarks.scenes.scene_trial import SceneTrial
from distill3r_core.config import validate
from distill3r_core.errors import ConfigError, ConflictError
from distill3r_core.models import load_student
from distill3r_core.report import Report, Silent
from distill3r_core.stages.evaluate import EvalSettings, evaluate

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


def test_every_cell_trains_a_student_and_finished_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []

    def evaluated(settings: EvalSettings, **options: Any) -> Report:
        scored.extend(Path(model) for model in settings.models)
        return evaluate(settings, **options)

    monkeypatch.setattr(scene_trial, "evaluate", evaluated)
    result = bench_scenes(study(tmp_path / "s")).result
    # Not `best`, which validation has chosen on the frames that are scored.
    assert [path.relative_to(path.parents[3]) for path in scored] == [
        Path(f"{cell}-0/run/checkpoints/last") for cell in TINY["cells"]
    ]
    assert [row["cell"] for row in result["rows"]] == list(TINY["cells"])
    assert [(row["cell"], row["against"]) for row in result["paired"]] == [
        ("no-attention", "vit-16"), ("pretrained", "vit-16"), ("frozen", "vit-16"),
        ("frozen", "pretrained"),
    ]  # fmt: skip
    assert result["views"] == 2  # every fifth of ten frames
    # In cm, as `eval` has them.
    of_eval = json.loads(
        next((tmp_path / "s").glob("parts-*/vit-16-0/eval-*/result.json")).read_text()
    )
    assert of_eval["units"]["location_median"] == "cm"
    nearest = of_eval["baselines"]["nearest_frame"]["location_median"]
    assert result["nearest"]["location"] == nearest
    report = bench_scenes(study(tmp_path / "s"))  # it is finished: shown again
    assert report.tables[0].rows[-1][1] == f"{nearest:.1f}"
    assert any("last step" in note for note in report.notes)
    for row in result["rows"]:
        assert row["mean"]["mse_metric"] > 0
        assert row["images"] == 2 * 8
        (run,) = (tmp_path / "s").glob(f"parts-*/{row['cell']}-0")
        logged = [json.loads(line) for line in (run / "run/metrics.jsonl").read_text().splitlines()]
        assert row["curve"] == [one["loss"] for one in logged if "loss" in one]
        held_out = [one["validation_loss"] for one in logged if one.get("validation_loss")]
        assert row["held_out_curve"] == held_out and len(held_out) == TINY["steps"]
        assert row["mean"]["mse"] > 0
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
    others = tuple(name for name in CELLS if name not in (*TINY["cells"], "cnn"))
    rows = bench_scenes(study(tmp_path, cells=others, size=(64, 64))).result["rows"]
    assert [row["cell"] for row in rows] == list(others)
    assert len({row["parameters"] for row in rows}) == len(rows)


def test_the_released_convolutions_are_trained_once_on_their_own_number_of_images(
    tmp_path: Path,
) -> None:
    silent = Silent()
    settings = study(
        tmp_path, cells=("vit-16", "cnn"), seeds=2, steps=13, cnn_steps=1, size=(14, 28)
    )
    report = bench_scenes(settings, progress=silent)
    transformer, convolutions = report.result["rows"]
    assert (transformer["seeds"], transformer["images"]) == (2, 13 * 8)
    assert len(transformer["curve"]) == 10
    assert len(transformer["held_out_curve"]) == 7  # after every second step, and the last
    assert (convolutions["seeds"], convolutions["images"]) == (1, 8)
    assert convolutions["parameters"] == pytest.approx(11.65e6, rel=1e-3)
    assert report.tables[2].rows[1][1] == "8, not to the plateau"
    assert report.result["paired"][0]["seeds"] == 1
    # How long it takes is told before anything is trained.
    told, first = (
        next(place for place, note in enumerate(silent.notes) if begins in note)
        for begins in ("of training, on one thread", "vit-16, seed 0")
    )
    assert told < first


def test_the_cost_is_the_processors_time_and_the_estimate_the_clocks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = {"process_time": 0.0, "perf_counter": 0.0}

    def running(name: str, step: float) -> Callable[[], float]:
        def now() -> float:
            times[name] += step
            return times[name]

        return now

    for name, step in (("process_time", 0.8), ("perf_counter", 1.6)):  # a machine half busy
        monkeypatch.setattr(scene_trial.time, name, running(name, step))
    trial = SceneTrial(
        cell="vit-64", seed=0, steps=1, folder=tmp_path, cache=tmp_path, scene=(), size=(16, 24)
    )
    found = trial.time_an_image()
    assert (found.cpu, found.clock) == pytest.approx((0.1, 0.2))  # a pass is of eight images


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
