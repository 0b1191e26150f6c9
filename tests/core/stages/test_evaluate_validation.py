"""`eval` without `--data`: the run's validation samples, against its cache."""

import json
from contextlib import nullcontext

import pytest
import torch
from scored_room import FRAMES, HELD_OUT, SIZE, read_truths, save_run, score

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.cache_union import CacheUnion
from distill3r_core.errors import (
    ConflictError,
    NothingUsableError,
)
from distill3r_core.evaluation.baselines import BASELINES
from distill3r_core.evaluation.baselines.baseline_depth import frame_distances
from distill3r_core.evaluation.baselines.training_frames import TrainingFrames
from distill3r_core.evaluation.predictions import predict_truth
from distill3r_core.evaluation.protocols import PROTOCOLS
from distill3r_core.evaluation.scores import score_sequence
from distill3r_core.evaluation.validation_samples import read_validation
from distill3r_core.runs.run_record import samples_of
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def test_without_data_validation_samples_are_scored_against_the_teacher(here):
    report = score()
    cache = TeacherCache(here / "caches/teacher")
    assert [s["name"] for s in report.result["sequences"]] == cache.names("val")
    assert report.result["published"] == {}
    assert report.files[0].parent.name == "tiny-001-validation-table2"
    truth = score(predict="truth")
    assert truth.result["metrics"]["acc"] == pytest.approx(0, abs=1e-4)
    assert truth.result["metrics"]["auc_30"] == 1  # the cached similarities
    assert truth.result["metrics"]["ate"] == pytest.approx(0, abs=1e-4)


def test_held_out_frames_are_scored_against_their_own_depth_and_poses(here):
    report = score(protocol="held-out")
    # Samples have three views, and three frames were held out.
    assert [one["views"] for one in report.result["sequences"]] == [HELD_OUT]
    assert report.result["views"] == HELD_OUT
    assert any(note == "3 held-out frames, 1 windows" for note in report.notes)
    assert report.result["rules"]["refinement"].startswith("poses of models by direct image")
    assert report.result["baselines"].keys() >= {"nearest_frame", "identity_poses"}
    nearest = report.result["baselines"]["nearest_frame"]
    assert all(nearest[name] is not None for name in ("abs_rel", "auc_30", "fused"))
    truth = score(protocol="held-out", predict="truth").result["metrics"]
    assert truth["auc_30"] == truth["delta_125"] == 1
    for name in ("acc", "comp", "abs_rel", "fused", "fused_true_poses", "focal_error", "ate"):
        assert truth[name] == pytest.approx(0, abs=1e-3), name
    assert truth["scale_norm"] == pytest.approx(1, abs=1e-6)


def test_the_nearest_training_frame_brings_its_own_pose(here):
    (truth,) = read_truths(here / "rooms", "held-out").truths
    training = TrainingFrames.of_run([here / "caches/teacher"], size=SIZE)
    _, poses = training.nearest(truth)
    seen, new = slice(FRAMES - HELD_OUT), slice(FRAMES - HELD_OUT, FRAMES)
    # A training frame is its own nearest; a held-out one takes the pose of one of these.
    torch.testing.assert_close(poses[seen], truth.world_poses[seen], atol=1e-6, rtol=0)
    nearest = frame_distances(truth.world_poses[new], truth.world_poses[seen]).argmin(dim=1)
    torch.testing.assert_close(poses[new], truth.world_poses[seen][nearest], atol=1e-6, rtol=0)
    baseline = BASELINES["nearest_frame"].predict(truth, training)
    placed = torch.linalg.inv(poses[0]) @ poses
    torch.testing.assert_close(baseline.global_from_local, placed[:, :3], atol=1e-6, rtol=0)


def test_the_nearest_frame_of_a_teacher_without_a_unit_has_no_lengths_beside_its_poses(
    here, tmp_path, monkeypatch
):
    metric = score(protocol="held-out").result["baselines"]["nearest_frame"]
    monkeypatch.setattr(CacheUnion, "metric", False)
    report = score(protocol="held-out", output=tmp_path / "result")
    found = report.result["baselines"]["nearest_frame"]
    assert metric["fused"] is not None and found["fused"] is None
    for name in ("auc_30", "rotation_median", "ate", "acc"):
        assert found[name] == pytest.approx(metric[name], rel=0.1), name
    reason = "nearest frame: maps and poses have no common unit: the teacher's maps have no unit"
    assert any(note.startswith(reason) for note in report.notes)


def test_clouds_of_all_views_are_not_put_together_without_a_common_unit(here):
    (truth,) = read_truths(here / "rooms", "pi3-dense").truths
    maps = predict_truth(truth)
    protocol = PROTOCOLS["pi3-dense"]
    scaled, unscaled = (score_sequence(truth, maps, protocol, scaled=one) for one in (True, False))
    differ = {name for name, values in scaled.values.items() if values != unscaled.values[name]}
    of_clouds = {"acc", "acc_mean", "comp", "comp_mean", "chamfer", "fscore", "nc", "nc_median"}
    assert differ == of_clouds | {"fused", "scale_norm"}
    assert all(unscaled.values[name] is None for name in differ)


def test_another_cache_at_the_runs_path_is_refused(here, tmp_path):
    run, cache = tmp_path / "run", here / "caches/teacher"
    save_run(run, cache)
    own = samples_of(TeacherCache(cache))
    for samples, refused in ((own["samples"], False), ("another", True)):
        record = {"finished": True, "identity": {"cache": {**own, "samples": samples}}}
        (run / "run.json").write_text(json.dumps(record))
        with pytest.raises(ConflictError, match="other samples") if refused else nullcontext():
            score(models=[run], output=tmp_path / "result")


def test_models_of_different_caches_are_not_compared_by_their_own_samples(here, tmp_path):
    build_cache(
        CacheSettings(
            manifest=here / "data/manifest.csv", output=tmp_path / "cache", size="28x42",
            teacher="synthetic",
        )
    )  # fmt: skip
    save_run(tmp_path / "same", here / "caches/teacher")
    save_run(tmp_path / "other", tmp_path / "cache")
    models = [here / "runs/tiny-001", tmp_path / "same", tmp_path / "other"]
    report = score(models=models, output=tmp_path / "result")
    assert report.result["other_truths"] == ["other"]
    assert report.result["differences"]["other"] == {}
    (note,) = (note for note in report.notes if "other samples than tiny-001" in note)
    assert note.startswith("other is scored") and "--data" in note
    together = score(models=models, data=here / "rooms", output=tmp_path / "data")
    assert together.result["other_truths"] == []


def test_a_student_whose_training_frames_are_not_known_says_so_of_its_own_samples(here, tmp_path):
    save_run(tmp_path / "run", here / "caches/teacher")
    (tmp_path / "run/pictures.txt").unlink()
    for protocol in ("table2", "held-out"):
        report = score(models=[tmp_path / "run"], protocol=protocol, output=tmp_path / protocol)
        assert any("training frames of this student are not known" in one for one in report.notes)


def test_baselines_are_not_made_of_another_cache_at_the_runs_path(here, tmp_path):
    run, cache = tmp_path / "run", here / "caches/teacher"
    save_run(run, cache)
    own = samples_of(TeacherCache(cache))
    for samples in (own["samples"], "another"):
        record = {"finished": True, "identity": {"cache": {**own, "samples": samples}}}
        (run / "run.json").write_text(json.dumps(record))
        report = score(models=[run], data=here / "rooms", output=tmp_path / samples[:8])
        found = report.result["baselines"]
        missing = [found[name] is None for name in ("mean_depth", "nearest_frame")]
        assert missing == [samples == "another"] * 2
        reason = f"nearest frame: the run learned from other samples than {cache} holds"
        assert any(reason in note for note in report.notes) == (samples == "another")


def test_validation_views_that_were_trained_on_are_left_out(here, tmp_path):
    path = here / "caches/teacher"
    cache = TeacherCache(path)
    pictures = [p for name in cache.names("val") for p in cache.detail(name)["pictures"]]
    save_run(tmp_path / "some", path, pictures=set(pictures[:1]))
    report = score(models=[tmp_path / "some"], output=tmp_path / "result")
    assert report.result["seen_in_training"] == pictures.count(pictures[0])
    assert report.result["views"] == len(pictures) - pictures.count(pictures[0])
    save_run(tmp_path / "all", path, pictures=set(pictures))
    with pytest.raises(NothingUsableError, match="training frames"):
        score(models=[tmp_path / "all"], output=tmp_path / "other")


def test_validation_samples_that_cannot_be_scored_are_failures(here, monkeypatch):
    first, read = TeacherCache(here / "caches/teacher").names("val")[0], TeacherCache.read_into

    def doubting(cache, name, views, buffers):
        read(cache, name, views, buffers)
        if name == first:
            buffers.mask[:] = 0

    monkeypatch.setattr(TeacherCache, "read_into", doubting)
    failed, cache = [], TeacherCache(here / "caches/teacher")
    truths = list(read_validation(cache, size=None, trained_on=frozenset(), failed=failed))
    assert [one.item for one in failed] == [first]
    assert [truth.name for truth in truths] == cache.names("val")[1:]


def test_a_run_without_validation_samples_has_nothing_to_score(here, tmp_path):
    build_manifest(
        ManifestSettings(
            roots=(here / "rooms",), output=tmp_path / "data", views=3, stride=1, val_scenes=0.0
        )
    )
    build_cache(
        CacheSettings(
            manifest=tmp_path / "data/manifest.csv", output=tmp_path / "cache", size="28x42"
        )
    )
    cache = TeacherCache(tmp_path / "cache")
    if cache.names("val"):
        pytest.fail("the manifest was asked to hold nothing out")
    save_run(tmp_path / "run", tmp_path / "cache")
    with pytest.raises(NothingUsableError, match="no validation samples"):
        score(models=[tmp_path / "run"])
    # All frames of the room were trained on.
    with pytest.raises(NothingUsableError, match="among the run's training frames"):
        score(models=[tmp_path / "run"], data=here / "rooms")
