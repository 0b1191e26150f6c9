"""The pose study, in its smallest form: cells, resumption, figures that are those of `eval`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from distill3r_core.benchmarks.poses import PoseStudySettings, bench_poses
from distill3r_core.benchmarks.poses.pose_cells import CELLS
from distill3r_core.benchmarks.scenes.scene_data import RenderedRooms
from distill3r_core.config import validate
from distill3r_core.errors import ConflictError
from distill3r_core.report import Silent

SOME = ("base", "twice", "no-meters")


class Interrupting(Silent):
    """Interrupts when something is said that begins so."""

    def __init__(self, beginning: str) -> None:
        self.beginning = beginning
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self.beginning and text.startswith(self.beginning):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered room of 20 frames, of which every fifth is held out."""
    folder = tmp_path_factory.mktemp("rooms")
    return RenderedRooms(folder, range(3000, 3001), 20, (28, 42)).cache(Silent())


def study(cache: Path, output: Path, **changes: object) -> PoseStudySettings:
    plain = {"cache": cache, "output": output, "cells": SOME, "seeds": 1, "steps": 2, **changes}
    return validate(PoseStudySettings, plain, source="a test")


def test_cells_are_scored_as_eval_does_and_finished_ones_are_kept(cache: Path, tmp_path: Path):
    settings = study(cache, tmp_path / "study")
    with pytest.raises(KeyboardInterrupt):
        bench_poses(settings, progress=Interrupting("no-meters, seed 0"))
    kept = {
        path.parent.name.rpartition("-")[0]: path
        for path in (tmp_path / "study").glob("*/outcome.json")
    }
    assert sorted(kept) == ["base-0", "twice-0"]
    written = kept["base-0"].stat().st_mtime_ns

    silent = Interrupting("")
    report = bench_poses(settings, progress=silent)
    assert [note for note in silent.notes if ", seed 0: " in note] == ["no-meters, seed 0: 1 of 1"]
    assert kept["base-0"].stat().st_mtime_ns == written
    assert [row["cell"] for row in report.result["rows"]] == list(SOME)
    assert [row["cell"] for row in report.result["paired"]] == ["twice", "no-meters"]
    assert report.result["views"] == 4
    for run in report.result["runs"]:
        (folder,) = (tmp_path / "study").glob(f"{run['cell']}-0-*")
        scored = json.loads((folder / "eval/result.json").read_text())
        (own,) = scored["without_refinement"].values()
        assert run["rotation"] == own["rotation_median"]
        assert run["rotation_refined"] == scored["metrics"]["rotation_median"]
        assert run["abs_rel"] == scored["metrics"]["abs_rel"]
        text = (folder / "run/metrics.jsonl").read_text()
        logged = [json.loads(line) for line in text.splitlines()]
        steps = [row for row in logged if "loss" in row]
        assert len(steps) == (4 if run["cell"] == "twice" else 2)
        assert ("loss_scale" in steps[0]) == (run["cell"] != "no-meters")  # its term

    with pytest.raises(ConflictError):
        bench_poses(study(cache, tmp_path / "study", steps=3))


def test_a_cell_that_means_something_else_is_trained_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As by a later version of the program: neither its result nor its run is taken."""
    settings = study(cache, tmp_path / "study", cells=("base",), steps=1)
    before = bench_poses(settings).result["runs"][0]["curve"]
    changed = replace(CELLS["base"], recipe={"optim": {"lr": 1e-5}, "model": {"map_size": "free"}})
    monkeypatch.setitem(CELLS, "base", changed)
    with pytest.raises(ConflictError):
        bench_poses(settings)
    report = bench_poses(settings, overwrite=True)
    assert not report.finished_before
    assert report.result["runs"][0]["curve"] != before


def test_all_other_cells_can_be_trained(cache: Path, tmp_path: Path):
    others = tuple(name for name in CELLS if name not in SOME)
    report = bench_poses(study(cache, tmp_path, cells=others, steps=1))
    assert [row["cell"] for row in report.result["rows"]] == list(others)
    curves = [tuple(run["curve"]) for run in report.result["runs"]]
    assert len(set(curves)) == len(curves)
