"""`evaluate` on a room that is known exactly, with students that are known to be bad or perfect."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_runs import write_run
from scored_room import FRAMES, HELD_OUT, SIZE, make_cache, save_run, score
from spatialbench_scenes import write_scene

from distill3r_core import config
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.frame_processing import Processing
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import (
    ConfigError,
    ConflictError,
    InputMissingError,
    NothingUsableError,
)
from distill3r_core.evaluation.baselines.baseline_depth import same_depth
from distill3r_core.evaluation.data_frames import read_test_data
from distill3r_core.evaluation.predictions import maps_of
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import figures_of, score_sequence
from distill3r_core.evaluation.validation_samples import poses_of
from distill3r_core.evaluation.view_truth import fit_views
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.models.checkpoint import save_student
from distill3r_core.models.metadata import StudentMetadata
from distill3r_core.report import Silent
from distill3r_core.runs.training_images import read_training_images
from distill3r_core.stages.evaluate import EvalSettings, evaluate


def test_the_truth_scores_zero_and_scale_one(here):
    report = score(data=here / "rooms", predict="truth", size="28x42")
    metrics = report.result["metrics"]
    assert metrics["acc"] == pytest.approx(0, abs=1e-4)
    assert metrics["comp"] == pytest.approx(0, abs=1e-4)
    assert metrics["scale"] == pytest.approx(1, abs=1e-6)
    assert metrics["scale_log_error"] == pytest.approx(0, abs=1e-6)
    assert report.result["views"] == FRAMES  # nothing is left out
    assert report.result["units"]["acc"] == "cm"


def test_a_plane_is_a_baseline_and_needs_no_run(here):
    report = score(data=here / "rooms", predict="constant", size="28x42")
    baselines = report.result["baselines"]
    assert baselines["constant_depth"] == report.result["metrics"]
    assert baselines["mean_depth"] is None
    assert baselines["nearest_frame"] is None
    assert report.result["grid"] == "28x42"
    assert report.result["metrics"]["acc"] > 1


@pytest.mark.parametrize(
    "asked",
    [
        {"data": "rooms", "predict": "truth", "size": "28x42"},
        {"data": "rooms", "predict": "constant", "size": "28x42"},
        {"data": "rooms", "models": "runs/tiny-001", "predict": "constant"},
        {"data": "rooms"},
        {},
    ],
)
def test_every_map_that_is_scored_is_reported_so_that_the_time_left_is_known(here, tmp_path, asked):
    class Counting(Silent):
        total, done = None, 0

        def begin(self, label, *, total, unit, done=0):
            self.total, self.done = total, done

        def advance(self, steps=1, **figures):
            self.done += steps

    progress = Counting()
    paths = {"data": here / asked["data"]} if "data" in asked else {}
    models = (here / asked["models"],) if "models" in asked else ()
    given = {**asked, **paths, "models": models}
    settings = EvalSettings(**given, device="cpu", output=tmp_path / "out")
    views = evaluate(settings, progress=progress).result["views"]
    assert progress.done == progress.total
    assert progress.total % views == 0
    assert progress.total >= views


def test_a_run_brings_its_own_grid(here):
    with pytest.raises(ConfigError, match="28x42: tiny-001 brings its own grid"):
        score(data=here / "rooms", models=[here / "runs/tiny-001"], size="28x42")


def test_training_frames_are_left_out_for_a_student_and_counted(here):
    report = score(data=here / "rooms")
    assert report.result["views"] == HELD_OUT
    assert report.result["seen_in_training"] == FRAMES - HELD_OUT
    assert report.result["grid"] == "28x42"
    assert report.files[0].parent == Path("results/eval/tiny-001-rooms-table2")
    assert any("5 frames left out" in note for note in report.notes)


def test_baselines_are_better_the_more_they_know(here):
    baselines = score(data=here / "rooms").result["baselines"]
    assert baselines["mean_depth"]["acc"] < baselines["constant_depth"]["acc"]
    assert baselines["nearest_frame"]["acc"] < baselines["constant_depth"]["acc"]
    # The depth teacher is metric, so maps of training frames have the right scale.
    assert 0.5 < baselines["nearest_frame"]["scale"] < 2


def test_the_mean_map_is_that_of_the_training_frames(here):
    mean = score(data=here / "rooms").result["baselines"]["mean_depth"]
    cache = TeacherCache(here / "caches/teacher")
    depth, mask = [], []
    for name in cache.names("train"):
        targets = cache.read(name).targets
        depth.append(targets.points_local[..., 2])
        mask.append(targets.valid_mask)
    total = np.where(torch.cat(mask), torch.cat(depth), 0).sum(0)
    by_hand = torch.from_numpy(total / torch.cat(mask).sum(0).numpy()).float()

    data = read_test_data(
        here / "rooms",
        layout="auto",
        protocol=PROTOCOLS["table2"],
        processing=Processing(),
        prepare=partial(fit_views, fit=ImageFit(size=SIZE)),
        trained_on=read_training_images(here / "runs/tiny-001/pictures.txt"),
        progress=Silent(),
    )
    (truth,) = data.truths
    points = same_depth(by_hand, truth.intrinsics)
    protocol = PROTOCOLS["table2"]
    scored = score_sequence(truth, maps_of(points, truth), protocol)
    assert mean["acc"] == pytest.approx(figures_of([scored], protocol)["acc"], rel=1e-3)


def test_truth_and_plane_leave_nothing_out_even_with_a_run(here):
    report = score(models=[here / "runs/tiny-001"], data=here / "rooms", predict="constant")
    assert report.result["views"] == FRAMES
    assert report.result["grid"] == "28x42"
    assert report.result["baselines"]["mean_depth"] is not None


def test_frames_are_processed_as_the_runs_manifest_did(here, tmp_path):
    make_cache(here / "rooms", tmp_path / "data", tmp_path / "cache", resize_max=70)
    save_run(tmp_path / "run", tmp_path / "cache")
    report = score(models=[tmp_path / "run"], data=here / "rooms", output=tmp_path / "out")
    # In any other form no frame would be known again.
    assert report.result["seen_in_training"] == FRAMES - HELD_OUT


def test_scoring_again_is_done_already_and_other_settings_go_beside_it(here, tmp_path):
    first = score(data=here / "rooms", output=tmp_path / "mine")
    again = score(data=here / "rooms", output=tmp_path / "mine")
    assert not first.finished_before
    assert again.finished_before
    assert again.result == first.result
    assert again.machine == first.machine and first.machine["device"] == "cpu"
    other = EvalSettings(
        device="cpu", data=here / "rooms", output=tmp_path / "mine", predict="truth", size="28x42"
    )
    with pytest.raises(ConflictError, match="predict: student → truth"):
        evaluate(other)
    replaced = evaluate(other, overwrite=True)
    assert replaced.result["predict"] == "truth"


def test_other_weights_under_the_same_name_are_another_result(here, tmp_path, monkeypatch):
    shutil.copytree(here / "runs", tmp_path / "runs", symlinks=True)
    monkeypatch.chdir(tmp_path)
    first = score(data=here / "rooms")
    torch.manual_seed(1)
    student = build_student("tiny")
    fit = ImageFit(size=SIZE).as_plain()
    metadata = StudentMetadata(preset="tiny", spec=student.spec, size=SIZE, fit=fit)
    write_run(tmp_path / "runs/tiny-001", student, metadata, step=2)
    second = score(data=here / "rooms")
    assert second.files[0].parent.name == first.files[0].parent.name + "-2"


def test_the_truth_lies_on_the_students_pixels(here):
    data = read_test_data(
        here / "rooms",
        layout="auto",
        protocol=PROTOCOLS["table2"],
        processing=Processing(),
        prepare=partial(fit_views, fit=ImageFit(size=SIZE)),
        trained_on=(),
        progress=Silent(),
    )
    (truth,) = data.truths
    manifest = read_manifest(here / "data/manifest.csv")
    assert data.layout == "rgbd"
    assert len(truth.view_names) == FRAMES
    held_out = [row.content for row in manifest.rows if row.split == "val"]
    assert set(held_out) <= set(truth.contents)  # processed as the manifest did
    # A pixel's point is seen in that pixel.
    points, k = truth.points[0], truth.intrinsics[0]
    seen = points @ k.T
    pixels = seen[..., :2] / seen[..., 2:]
    rows, columns = SIZE
    expected = torch.stack(
        torch.meshgrid(torch.arange(columns) + 0.5, torch.arange(rows) + 0.5, indexing="xy"), -1
    )
    mask = truth.mask[0]
    torch.testing.assert_close(pixels[mask], expected[mask], atol=1e-3, rtol=0)


def test_broken_frames_are_named_and_the_others_scored(here, tmp_path):
    shutil.copytree(here / "rooms", tmp_path / "rooms")
    (tmp_path / "rooms/one/pose/000002.txt").write_text("nan " * 16)
    Image.new("I;16", (84, 56)).save(tmp_path / "rooms/one/depth/000003.png")
    report = score(data=tmp_path / "rooms", predict="truth", size="28x42", output=tmp_path / "out")
    assert report.result["views"] == FRAMES - 2
    assert {failure.item.rpartition("/")[2] for failure in report.failed} == {
        "000002.png",
        "000003.png",
    }


def test_truth_that_means_nothing_is_named_with_its_reason_and_in_no_figure(here, tmp_path):
    rooms = tmp_path / "rooms"
    shutil.copytree(here / "rooms/one", rooms / "one")
    shutil.copytree(here / "rooms/one", rooms / "two")
    (rooms / "two/intrinsics.txt").write_text("nan 0 42\n0 nan 28\n0 0 1\n")
    doubled = np.diag([2.0, 2.0, 2.0, 1.0])  # no rotation
    np.savetxt(rooms / "one/pose/000001.txt", doubled)
    full = np.full((56, 84), 65535, np.uint16)  # what sensors write where they saw nothing
    Image.fromarray(full).save(rooms / "one/depth/000004.png")
    report = score(
        data=rooms, protocol="held-out", predict="truth", size="28x42", output=tmp_path / "out"
    )
    reasons = {Path(one.item).relative_to(rooms).as_posix(): one.reason for one in report.failed}
    assert reasons.keys() == {
        "one/rgb/000001.png",
        "one/rgb/000004.png",
        *(f"two/rgb/{number:06d}.png" for number in range(FRAMES)),
    }
    assert "not a rotation" in reasons["one/rgb/000001.png"]
    assert "no valid pixel" in reasons["one/rgb/000004.png"]
    assert all("intrinsics" in reasons[name] for name in reasons if name.startswith("two"))
    assert report.result["views"] == FRAMES - 2
    assert [one["name"] for one in report.result["sequences"]] == ["rooms/one"]
    assert report.result["metrics"]["acc"] == pytest.approx(0, abs=1e-4)


def test_millimeters_are_scored_as_meters(here):
    cache = TeacherCache(here / "caches/teacher")
    detail = dict(cache.detail(cache.names()[0]))
    meters = poses_of(detail, [0, 1])
    detail["units"] = ["mm"] * len(detail["units"])
    millimeters = poses_of(detail, [0, 1])
    torch.testing.assert_close(millimeters[:, :3, 3] * 1000, meters[:, :3, 3])
    torch.testing.assert_close(millimeters[:, :3, :3], meters[:, :3, :3])


def test_a_student_that_does_not_know_its_frames_says_so(here, tmp_path):
    student = build_student("tiny")
    fit = ImageFit(size=SIZE).as_plain()
    metadata = StudentMetadata(preset="tiny", spec=student.spec, size=SIZE, fit=fit)
    save_student(tmp_path / "lone.safetensors", student, metadata)
    report = score(
        models=[tmp_path / "lone.safetensors"], data=here / "rooms", output=tmp_path / "out"
    )
    assert report.result["views"] == FRAMES
    assert any("not known" in note for note in report.notes)
    assert report.result["baselines"]["mean_depth"] is None
    with pytest.raises(InputMissingError, match="does not say which cache"):
        score(models=[tmp_path / "lone.safetensors"])


def test_a_bench_whose_images_have_another_form_says_that_no_training_frame_is_left_out(
    here, tmp_path
):
    write_scene(tmp_path / "bench/sparse/tum/room")
    report = score(
        models=[here / "runs/tiny-001"], data=tmp_path / "bench", protocol="spatialbench-sparse",
        output=tmp_path / "out",
    )  # fmt: skip
    assert any("none is known again as a training frame" in note for note in report.notes)


def test_nothing_to_score_says_what_is_needed(here, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        gradient = Image.linear_gradient("L").resize((84, 56)).rotate(90 * number)
        gradient.save(tmp_path / f"photos/{number}.png")
    with pytest.raises(NothingUsableError, match="no depth") as caught:
        score(data=tmp_path / "photos", predict="truth")
    assert "rgbd" in str(caught.value.hint)


def test_what_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputMissingError):  # no run
        score()
    with pytest.raises(InputMissingError):
        score(data=tmp_path / "nowhere", predict="truth")
    with pytest.raises(ConfigError, match="did you mean 'table2'"):
        score(data=tmp_path, predict="truth", protocol="table3")
    with pytest.raises(ConfigError):
        config.validate(EvalSettings, {"predict": "nonsense"}, source="settings")


def test_the_result_file_says_by_which_rules(here):
    report = score(data=here / "rooms", predict="truth", size="28x42")
    result = json.loads(report.files[0].read_text())
    assert result == report.result
    assert result["protocol"] == "table2"
    assert result["rules"].keys() >= {"head", "alignment", "distance", "median", "mean", "frames"}
    assert result["units"].keys() == result["metrics"].keys()


def test_7_scenes_frames_are_those_whose_number_20_divides(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thin = replace(PROTOCOLS["table2"], grid=(28, 42))
    data = read_test_data(
        data_dir / "7scenes_kitchen",
        layout="auto",
        protocol=thin,
        processing=Processing(),
        prepare=partial(fit_views, fit=ImageFit(size=(28, 42))),
        trained_on=(),
        progress=Silent(),
    )
    (truth,) = data.truths
    assert data.layout == "7scenes"
    assert len(truth.view_names) == 35
    assert truth.view_names[1] == "frame-000020"
    assert truth.world == "7scenes_kitchen/redkitchen"
    assert 0.65 < float(truth.mask.float().mean()) < 0.8  # registered depth is 0.72 valid


def test_a_plane_on_the_kitchen_scores_what_was_measured_before(data_dir, tmp_path):
    report = score(
        data=data_dir / "7scenes_kitchen", predict="constant", size="160x213", output=tmp_path / "o"
    )
    # 15.1 / 20.3 over all 140 frames of the sequence, by an independent program.
    assert report.result["metrics"]["acc"] == pytest.approx(15.1, abs=0.2)
    assert report.result["metrics"]["comp"] == pytest.approx(20.3, abs=0.2)
    assert report.result["published"] == {}  # theirs are of all test sequences


def test_several_models_share_a_table_and_the_first_is_the_result(here, tmp_path):
    torch.manual_seed(7)
    student = build_student("tiny")
    fit = ImageFit(size=SIZE).as_plain()
    metadata = StudentMetadata(preset="tiny", spec=student.spec, size=SIZE, fit=fit)
    save_student(tmp_path / "other.safetensors", student, metadata)
    models = [here / "runs/tiny-001", tmp_path / "other.safetensors"]
    report = score(models=models, data=here / "rooms", output=tmp_path / "both")
    alone = score(models=models[1:], data=here / "rooms", output=tmp_path / "one")
    assert list(report.result["models"]) == ["tiny-001", "other"]
    assert report.result["models"]["tiny-001"] == report.result["metrics"]
    assert report.result["models"]["other"] == alone.result["metrics"]
    rows = [row[0] for row in report.tables[0].rows[:4]]
    names = []
    for label, facts in report.result["refinement"].items():
        aligned, views = facts["aligned"], facts["views"]
        shown = label if aligned == views else f"{label}, {aligned}/{views} refined"
        names += [shown, f"{label}, not refined"]
    assert rows == names
    assert len([note for note in report.notes if note.startswith("poses of ")]) == 2
    # The other one does not know its training frames: none was left out.
    (note,) = (note for note in report.notes if note.startswith("no interval"))
    assert note.startswith("no interval: not scored on the same views (difference of other from")
    assert "Acc" in note
    difference = report.result["differences"]["other"]
    assert difference.keys() <= report.result["metrics"].keys()


def test_models_of_different_grids_are_marked_in_their_table(here, tmp_path):
    models = [here / "runs/tiny-001", "depth"]
    shutil.copytree(here / "rooms", tmp_path / "rooms")
    (tmp_path / "rooms/one/pose/000002.txt").write_text("nan " * 16)
    report = score(models=models, data=tmp_path / "rooms", output=tmp_path / "mixed")
    (failure,) = report.failed  # of both models, and named once
    assert failure.item.endswith("000002.png")
    own = "x".join(map(str, SIZE))
    assert report.result["grids"] == {"tiny-001": own, "depth": "56x84"}
    names = [row[0] for row in report.tables[0].rows]
    assert names[0] == f"tiny-001 ({own})" and "depth (56x84)" in names


def test_a_teacher_is_scored_by_its_name(here, tmp_path):
    report = score(models=["depth"], data=here / "rooms", output=tmp_path / "teacher")
    assert report.result["metrics"]["acc"] == pytest.approx(0, abs=1e-3)
    assert report.result["metrics"]["scale"] == pytest.approx(1, abs=1e-5)
    assert report.result["grid"] == "56x84"  # the images' own size
    with pytest.raises(ConfigError, match="depth has no validation samples"):
        score(models=["depth"])
