"""Scenes in which no frame has a pose: exact local maps, and no part in what is global."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.loading.loader import RingLoader
from distill3r_core.data.loading.sample_requests import SampleRequest
from distill3r_core.data.manifest import read_manifest, write_manifest
from distill3r_core.errors import InputMissingError, RequestError
from distill3r_core.evaluation.validation_samples import read_validation
from distill3r_core.losses import DistillationLoss, Objective
from distill3r_core.losses.loss_term import TermOptions
from distill3r_core.models import build_student
from distill3r_core.report import Silent
from distill3r_core.stages.cache import build_cache
from distill3r_core.stages.cache.inspect_cache import cache_info
from distill3r_core.stages.cache.original_exchange import export_original
from distill3r_core.stages.train.caches import open_finished
from distill3r_core.teachers.choice import TeacherChoice
from distill3r_core.training.distributed import World
from distill3r_core.training.settings import ComputeSettings, TrainSettings
from distill3r_core.training.validation import validate
from distill3r_core.types import PointMaps

POSED, UNPOSED = "data/scene0/000", "data/scene1/000"


@pytest.fixture
def unposed(settings):
    """Two scenes, of which the second has no poses; the teacher is named."""
    rows = read_manifest(settings.manifest).rows
    changed = [
        replace(row, pose=None, content="") if row.scene_id == "scene1" else row for row in rows
    ]
    write_manifest(settings.manifest, changed)
    return replace(settings, teacher=TeacherChoice("depth"))


def test_local_maps_are_those_of_posed_frames_and_the_similarity_is_the_identity(
    settings, unposed, tmp_path
):
    report = build_cache(unposed)
    assert report.result["local_only"] == 2
    assert cache_info(unposed.output).result["local_only"] == 2
    found = TeacherCache(unposed.output).read(UNPOSED).targets
    assert found.local_only is not None
    assert found.local_only.tolist() == [True] * 3
    torch.testing.assert_close(found.global_from_local, torch.eye(3, 4).expand(3, 3, 4))
    assert not found.global_mask.any()
    posed = TeacherCache(unposed.output).read(POSED).targets
    assert posed.local_only is None
    assert torch.equal(posed.global_mask, posed.valid_mask)
    rows = read_manifest(settings.manifest).rows
    pose = next(row.pose for row in rows if row.pose is not None)
    write_manifest(settings.manifest, [replace(row, pose=pose, content="") for row in rows])
    again = replace(settings, output=tmp_path / "posed")
    build_cache(again)
    with_poses = TeacherCache(again.output).read(UNPOSED).targets
    assert torch.equal(found.points_local, with_poses.points_local)
    assert torch.equal(found.valid_mask, with_poses.valid_mask)


def test_auto_names_both_ways_and_creates_nothing(settings, unposed):
    with pytest.raises(InputMissingError) as caught:
        build_cache(replace(unposed, teacher=TeacherChoice()))
    assert "1 scenes" in caught.value.message
    assert "--poses colmap" in (caught.value.hint or "")
    assert "--teacher depth" in (caught.value.hint or "")
    assert not unposed.output.exists()


def test_a_scene_in_which_only_some_frames_have_a_pose_is_refused(settings):
    rows = list(read_manifest(settings.manifest).rows)
    rows[1] = replace(rows[1], pose=None, content="")
    write_manifest(settings.manifest, rows)
    with pytest.raises(InputMissingError, match="needs a pose of every image"):
        build_cache(replace(settings, teacher=TeacherChoice("depth")))


def test_a_batch_of_both_kinds_trains_the_global_map_with_the_posed_sample_alone(unposed):
    build_cache(unposed)
    cache = TeacherCache(unposed.output)
    group = [
        SampleRequest(POSED, (1, 0, 2), 0, reanchored=True),
        SampleRequest(UNPOSED, (2, 1, 0), 1, reanchored=True, mirrored=True),
    ]
    with RingLoader(cache) as loader:
        (stored,) = loader.batches([group])
        targets = stored.to(torch.device("cpu")).targets
    assert targets.local_only is not None
    assert targets.local_only.tolist() == [[False] * 3, [True] * 3]
    shape = targets.points_local.shape
    generator = torch.Generator().manual_seed(0)
    maps = {
        "points_global": torch.randn(shape, generator=generator),
        "points_local": torch.randn(shape, generator=generator),
        "confidence_global": 1 + torch.rand(shape[:-1], generator=generator),
        "confidence_local": 1 + torch.rand(shape[:-1], generator=generator),
    }
    for values in maps.values():
        values.requires_grad_()
    total = DistillationLoss()(PointMaps(**maps), targets).total
    total = total + Objective({"scale": TermOptions(weight=1.0)})(PointMaps(**maps), targets).total
    total.backward()
    touched = {name: (values.grad != 0).flatten(1).any(1) for name, values in maps.items()}
    assert {name: rows.tolist() for name, rows in touched.items()} == {
        "points_global": [True, False],
        "points_local": [True, True],
        "confidence_global": [True, False],
        "confidence_local": [True, True],
    }


def test_validation_counts_global_errors_of_posed_samples_alone(unposed):
    build_cache(unposed)
    cache = TeacherCache(unposed.output)
    requests = {
        name: SampleRequest(name, (0, 1, 2), 0, reanchored=False) for name in (POSED, UNPOSED)
    }
    torch.manual_seed(0)
    student = build_student("tiny")

    def distances(*names: str) -> Mapping[str, float]:
        with RingLoader(cache) as loader:
            found = validate(
                student,
                loader.batches([[requests[name] for name in names]]),
                Objective({"scale": TermOptions(weight=1.0)}),
                compute=ComputeSettings(),
                bfloat16=False,
                world=World.from_environment(),
            )
        return found.distances

    both, posed, alone = distances(POSED, UNPOSED), distances(POSED), distances(UNPOSED)
    assert both["points_global"] == pytest.approx(posed["points_global"], rel=1e-5)
    assert both["points_local"] == pytest.approx(
        (posed["points_local"] + alone["points_local"]) / 2, rel=1e-5
    )
    assert "points_global" not in alone


def test_what_needs_global_points_says_so_or_leaves_them_out(unposed, tmp_path):
    rows = read_manifest(unposed.manifest).rows
    write_manifest(
        unposed.manifest,
        [replace(row, split="val") if row.scene_id == "scene1" else row for row in rows],
    )
    build_cache(unposed)
    with pytest.raises(RequestError, match=r"2 of 4 samples .* have no poses"):
        export_original(unposed.output, tmp_path / "original")
    assert not (tmp_path / "original").exists()
    truths = list(
        read_validation(TeacherCache(unposed.output), size=None, trained_on=frozenset(), failed=[])
    )
    assert [truth.poses for truth in truths] == [None, None]
    assert truths[0].global_from_local is None


def test_a_run_without_any_pose_is_warned(unposed):
    rows = read_manifest(unposed.manifest).rows
    write_manifest(unposed.manifest, [replace(row, pose=None, content="") for row in rows])
    build_cache(unposed)
    progress = Silent()
    open_finished(TrainSettings(cache=unposed.output), progress)
    assert any("no training sample has poses" in note for note in progress.notes)
