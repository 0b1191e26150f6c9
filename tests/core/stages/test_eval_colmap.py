"""COLMAP's poses as a row of every evaluation: by default, without the extra, and left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scored_room import FRAMES, HELD_OUT, make_cache, save_run, score

from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ExtraMissingError
from distill3r_core.evaluation.baselines import colmap_solver
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.report import Silent
from distill3r_core.stages.evaluate import EvalSettings, baseline_rows, evaluate, settings

TITLE = "COLMAP poses"


@pytest.fixture
def solved(monkeypatch):
    """The cameras and images that a solver was given; it loses the last of them."""
    given = []

    def solve_images(views, *, on_step):
        views = list(views)
        given.append(views)
        on_step("pairs", 0, 1)
        on_step("pairs", 1, 1)
        rows, columns = np.mgrid[2:54:4, 2:82:6].reshape(2, -1)
        pixels = np.stack([columns + 0.5, rows + 0.5], 1)
        poses = np.tile(np.eye(4), (len(views), 1, 1))
        poses[:, 0, 3] = range(len(views))
        return {
            index: SolvedImage(
                poses[index], pixels, np.ones(len(pixels)), np.eye(3), views[index][1].size
            )
            for index in range(len(views) - 1)
        }

    for module in (settings, baseline_rows):
        monkeypatch.setattr(module, "pnp_available", lambda: True)
    monkeypatch.setattr(colmap_solver, "solve_images", solve_images)
    return given


@pytest.fixture
def place(here, tmp_path, monkeypatch):
    """A copy of the room and its run, as the current folder."""
    for name in ("rooms", "data", "caches", "runs"):
        shutil.copytree(here / name, tmp_path / name, symlinks=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_row_is_there_by_default_and_says_what_was_not_placed(place, solved):
    options = {"data": place / "rooms", "predict": "truth", "size": "28x42"}
    report = evaluate(EvalSettings(**options, device="cpu"))
    row = report.result["baselines"]["colmap_poses"]
    assert set(row) == set(report.result["metrics"])
    assert report.result["baselines"]["identity_poses"] is not None
    missing = f"{TITLE}: {FRAMES - 1} of {FRAMES} views are placed (rooms/one)"
    assert missing in report.notes
    # What is asked for decides, and a result without the row is another one.
    without = score(**options)
    assert "colmap_poses" not in without.result["baselines"]
    assert not any("COLMAP" in note for note in without.notes)
    assert without.files[0].parent != report.files[0].parent


def test_other_models_and_folders_use_what_colmap_found_before(place, solved):
    for options in (
        {"predict": "truth", "size": "28x42"},
        {"predict": "constant", "size": "28x42", "output": place / "plane"},
        {"predict": "truth", "size": "56x84"},
    ):
        evaluate(EvalSettings(data=place / "rooms", device="cpu", **options))
    assert len(solved) == 1
    assert len(list(Path("results/eval/.colmap").iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_said_and_costs_no_result(place, solved, monkeypatch):
    def refuse(path, solved):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(colmap_solver, "save_solved", refuse)
    progress = Silent()
    wanted = EvalSettings(data=place / "rooms", predict="truth", size="28x42", device="cpu")
    report = evaluate(wanted, progress=progress)
    assert report.result["baselines"]["colmap_poses"] is not None
    assert any("not kept: Permission denied" in note for note in progress.notes)


def test_progress_goes_on_where_colmap_interrupted_it(place, solved):
    class Phases(Silent):
        def __init__(self):
            super().__init__()
            self.phases = []

        def begin(self, label, *, total, unit, done=0):
            self.phases.append([label, total, done])

        def advance(self, steps=1, **figures):
            self.phases[-1][2] += steps

    progress = Phases()
    wanted = EvalSettings(data=place / "rooms", predict="truth", size="28x42", device="cpu")
    evaluate(wanted, progress=progress)
    labels = [label for label, _, _ in progress.phases]
    assert labels[-3:] == ["score", "rooms/one: COLMAP pairs", "score"]
    assert progress.phases[-2][1:] == [1, 1]
    _, total, done = progress.phases[-1]
    assert done == total and total % FRAMES == 0


def test_validation_samples_have_the_row_on_the_images_of_their_manifest(place, solved):
    report = evaluate(EvalSettings(models=("runs/tiny-001",), device="cpu"))
    assert report.result["baselines"]["colmap_poses"] is not None
    (views,) = solved
    rows = [row for row in read_manifest(place / "data/manifest.csv").rows if row.split == "val"]
    assert len(views) == len(rows) == HELD_OUT
    for row, (image, camera) in zip(rows, views, strict=True):
        assert image.shape == (row.H, row.W, 3) != (28, 42, 3)
        k = np.array(row.K).reshape(3, 3)
        assert camera.intrinsics == (k[0, 0], k[1, 1], k[0, 2], k[1, 2])


@pytest.mark.parametrize("resized", [None, (14, 28)], ids=["size of the cache", "smaller"])
def test_figures_of_a_model_do_not_depend_on_colmap(place, solved, resized):
    save_run(place / "run", place / "caches/teacher", resized=resized)
    found = [
        evaluate(EvalSettings(models=("run",), device="cpu", colmap=colmap))
        for colmap in (True, False)
    ]
    assert len(solved) == 1
    assert found[0].result["refinement"] is not None
    assert found[0].result["metrics"] == found[1].result["metrics"]


def test_a_sample_whose_images_are_gone_says_so(place, solved):
    make_cache(place / "rooms", place / "other", place / "cache")
    save_run(place / "run", place / "cache")
    rows = read_manifest(place / "other/manifest.csv").rows
    held_out = next(row for row in rows if row.split == "val")
    (place / "other" / held_out.image_path).unlink()
    report = evaluate(EvalSettings(models=("run",), device="cpu"))
    assert report.result["baselines"]["colmap_poses"] is None and solved == []
    reason = "the images of its manifest are not there as they were"
    assert any(note.startswith(f"{TITLE}: {reason}") for note in report.notes)


def test_rows_without_a_run_say_so_together(place):
    report = score(data=place / "rooms", predict="truth", size="28x42")
    line = "mean depth map, nearest frame: there is no run (rooms/one)"
    assert line in report.notes
    again = score(data=place / "rooms", predict="truth", size="28x42")
    assert again.finished_before and line in again.notes


def test_a_protocol_of_places_in_the_scene_does_not_run_it(place, solved):
    wanted = EvalSettings(
        data=place / "rooms", predict="truth", size="28x42", protocol="localization", device="cpu"
    )
    report = evaluate(wanted)
    assert "colmap_poses" not in report.result["baselines"] and solved == []


def test_without_the_extra_a_note_names_it_and_asking_for_it_is_refused(place, monkeypatch):
    for module in (settings, baseline_rows):
        monkeypatch.setattr(module, "pnp_available", lambda: False)
    monkeypatch.setattr("distill3r_core.geometry.pnp.pnp_available", lambda: False)
    options = {"data": place / "rooms", "predict": "truth", "size": "28x42", "device": "cpu"}
    report = evaluate(EvalSettings(**options))
    assert "colmap_poses" not in report.result["baselines"]
    assert any("distill3r[colmap]" in note for note in report.notes)
    with pytest.raises(ExtraMissingError, match="COLMAP's poses need the extra 'colmap'"):
        evaluate(EvalSettings(**options, colmap=True))
