"""The stage: what it makes, refuses, leaves out and takes up again."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from cache_material import SIZE, records, rgbd_manifest

from distill3r_core.cache.database import DATA
from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import read_manifest, write_manifest
from distill3r_core.errors import (
    ConfigError,
    ConflictError,
    DiskFullError,
    ImageError,
    InputMissingError,
    NothingUsableError,
    OutOfMemoryError,
    WeightsError,
)
from distill3r_core.io.images.size_buckets import bucket_sizes, nearest_bucket
from distill3r_core.report import Silent
from distill3r_core.stages.cache import CacheSettings, build_cache, cache_report
from distill3r_core.stages.cache import build_stage as stage
from distill3r_core.stages.cache import sample_pipeline as work
from distill3r_core.stages.cache.sample_plan import share_of
from distill3r_core.stages.cache.writers import part_of
from distill3r_core.teachers import DepthTeacher


def test_the_depth_teachers_maps_are_the_sensors_depth_on_the_pixels_rays(settings):
    report = build_cache(settings)
    assert report.result["finished"] == report.result["planned"] == 4
    cache = TeacherCache(settings.output)
    assert cache.header.teacher == "depth"
    assert cache.header.metric
    assert cache.planes == 3
    sample = cache.read("data/scene0/000")
    assert sample.images.shape == (3, 3, *SIZE)
    z = sample.targets.points_local[..., 2]
    assert ((z > 0.6) & (z < 3.4))[sample.targets.valid_mask].all()
    anchor = sample.targets.global_from_local[0]
    torch.testing.assert_close(anchor, torch.eye(3, 4))
    moved = sample.targets.global_from_local[2, :, 3]
    torch.testing.assert_close(moved, torch.tensor([0.2, 0, 0]))


def test_what_is_finished_is_said_to_be_and_not_made_again(settings):
    build_cache(settings)
    before = (settings.output / "shard-0000" / DATA).stat().st_mtime_ns
    for resume in (False, True):
        assert build_cache(settings, resume=resume).finished_before
    assert (settings.output / "shard-0000" / DATA).stat().st_mtime_ns == before


def test_a_half_done_cache_is_a_conflict_that_names_the_command(settings):
    whole = read_manifest(settings.manifest)
    write_manifest(settings.manifest, [row for row in whole.rows if row.scene_id == "scene0"])
    build_cache(settings)
    first = records(settings.output)
    write_manifest(settings.manifest, whole.rows)
    with pytest.raises(ConflictError, match="has 2 of 4 samples") as error:
        build_cache(settings)
    assert "cache --resume" in (error.value.hint or "")
    report = build_cache(settings, resume=True)
    assert report.result["made"] == 2
    assert first.items() <= records(settings.output).items()


def test_other_settings_are_refused_with_the_differences(settings):
    build_cache(settings)
    for change, named in (
        ({"size": "28x56"}, r"size: \[28, 42\] → \[28, 56\]"),
        ({"threshold": 0.5}, "threshold: None → 0.5"),
        ({"teacher": "synthetic"}, "teacher: depth → synthetic"),
        ({"fit": "crop"}, "fit.mode: squash → crop"),
        ({"exact_global": True}, "codec"),
    ):
        with pytest.raises(ConflictError, match=named):
            build_cache(replace(settings, **change), resume=True)
    assert build_cache(replace(settings, workers=1, device="cpu"), resume=True).finished_before


def test_a_moved_manifest_leaves_finished_samples_valid(settings, tmp_path):
    build_cache(settings)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    moved = replace(settings, manifest=tmp_path / "elsewhere" / "manifest.csv")
    assert build_cache(moved, resume=True).finished_before


def test_a_changed_picture_is_left_out_named_and_tried_again(settings):
    build_cache(settings)
    picture = settings.manifest.parent / "images/scene1_004.png"
    kept = picture.read_bytes()
    picture.write_bytes(kept[:-40])
    report = build_cache(settings, resume=True)
    (failure,) = report.failed
    assert failure.item == "data/scene1/001"
    assert "images/scene1_004.png" in failure.reason
    assert TeacherCache(settings.output).missing() == ["data/scene1/001"]
    picture.write_bytes(kept)
    report = build_cache(settings, resume=True)
    assert report.finished_before  # what was made of it is still right
    assert not report.failed


def test_if_every_sample_is_left_out_nothing_is_usable(settings):
    for picture in (settings.manifest.parent / "images").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(NothingUsableError, match="all 4 samples were left out"):
        build_cache(settings)


def test_a_dry_run_says_what_would_be_done_and_creates_nothing(settings):
    report = build_cache(settings, dry_run=True)
    assert report.result["to_make"] == 4
    assert report.result["expected_bytes"] > 0
    assert report.result["expected_seconds"] > 0
    assert not settings.output.exists()


def test_missing_weights_end_it_before_anything_is_created(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL3R_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with pytest.raises(WeightsError) as error:
        build_cache(replace(settings, teacher="fast3r"))
    assert "--teacher synthetic" in (error.value.hint or "")
    assert not settings.output.exists()


def test_the_depth_teacher_without_depth_is_refused_before_anything_is_created(settings):
    manifest = read_manifest(settings.manifest)
    rows = [replace(row, depth_path="", depth_format=None) for row in manifest.rows]
    write_manifest(settings.manifest, rows)
    with pytest.raises(InputMissingError, match=r"images/scene0_000\.png"):
        build_cache(replace(settings, teacher="depth"))
    assert not settings.output.exists()


def test_too_small_a_disk_is_said_before_the_work(settings, monkeypatch):
    monkeypatch.setattr(cache_report, "free_bytes", lambda _: 1000)
    with pytest.raises(DiskFullError, match="4 samples need about"):
        build_cache(settings)
    assert not settings.output.exists()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("0x14", "cannot read the size"),
        ("224", "cannot read the size"),
        ("big", "cannot read the size"),
        ("225x518", "not multiples of 14; the nearest is 224x518"),
    ],
)
def test_a_size_that_is_no_number_of_patches_is_refused(size, message):
    with pytest.raises(ValueError, match=message):
        CacheSettings(size=size)


def test_a_size_is_the_same_in_capital_letters():
    assert CacheSettings(size="224X518") == CacheSettings(size="224x518")


def test_sizes_by_shape_have_as_many_patches_as_the_papers(tmp_path):
    sizes = bucket_sizes(592, patch=14)
    assert (224, 518) in sizes
    assert all(0.96 * 592 <= (h // 14) * (w // 14) <= 592 for h, w in sizes)
    assert nearest_bucket([(480, 640), (640, 480)], patches=592, patch=14) == (294, 392)
    manifest = rgbd_manifest(tmp_path, scenes=1, samples=1, size=(60, 80))
    settings = CacheSettings(manifest=manifest, output=tmp_path / "cache", size="auto")
    build_cache(settings)
    cache = TeacherCache(tmp_path / "cache")
    assert cache.header.size == "auto"
    assert cache.entry("data/scene0/000").size == (294, 392)


@pytest.mark.parametrize(
    ("fit", "size"), [("squash", (42, 28)), ("crop", (42, 28)), ("release", (28, 42))]
)
def test_portrait_samples_stand_and_picture_and_maps_show_the_same(tmp_path, fit, size):
    manifest = rgbd_manifest(tmp_path, scenes=1, samples=1, size=(80, 56))
    settings = CacheSettings(manifest=manifest, output=tmp_path / "cache", size="28x42", fit=fit)
    build_cache(settings)
    sample = TeacherCache(tmp_path / "cache").read("data/scene0/000")
    assert sample.images.shape[2:] == size
    assert sample.targets.points_local.shape[1:3] == size
    points, mask = sample.targets.points_local[0], sample.targets.valid_mask[0]
    right, down = (points[..., 0], points[..., 1])
    across = (right[mask], down[mask])
    if fit == "release":  # transposed: columns run down the picture
        across = across[::-1]
    columns = torch.arange(size[1]).expand(size)[mask].float()
    assert np.corrcoef(across[0], columns)[0, 1] > 0.9
    assert abs(np.corrcoef(across[1], columns)[0, 1]) < 0.3


class Hungry(DepthTeacher):
    """Runs out of memory on every sample of scene1."""

    def predict(self, views, **options):
        if "scene1" in views[0].sample:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().predict(views, **options)


def test_a_sample_that_does_not_fit_into_memory_is_left_out_and_the_others_are_made(
    settings, monkeypatch
):
    monkeypatch.setattr(stage, "build_teacher", lambda *_, **__: Hungry())
    report = build_cache(settings)
    assert [failure.item for failure in report.failed] == ["data/scene1/000", "data/scene1/001"]
    assert "3 views at once" in report.failed[0].reason
    assert report.result["finished"] == 2
    monkeypatch.setattr(Hungry, "predict", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemoryError):
        build_cache(replace(settings, output=settings.output.with_name("other")))


class Garrulous(DepthTeacher):
    """Talks of memory, and lacks something else."""

    def predict(self, views, **options):
        raise ImageError("memory ran out of the picture's frame")


def test_what_kept_a_sample_out_is_told_by_its_kind_and_not_by_its_words(settings, monkeypatch):
    monkeypatch.setattr(stage, "build_teacher", lambda *_, **__: Garrulous())
    with pytest.raises(NothingUsableError):
        build_cache(settings)


@pytest.mark.parametrize("step", ["load_sample", "targets_of_sample"])
def test_memory_that_runs_out_beside_the_teacher_costs_a_sample_and_not_the_run(
    settings, monkeypatch, step
):
    real, asked = getattr(work, step), []

    def greedy(*arguments):
        asked.append(step)
        return real(*arguments) if len(asked) != 2 else torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(work, step, greedy)
    report = build_cache(settings)
    assert [failure.item for failure in report.failed] == ["data/scene0/001"]
    assert report.result["finished"] == 3


class Parted(DepthTeacher):
    """Has memory for one view at a time only."""

    views_at_once, asked = 25, ()

    def predict(self, views, **options):
        self.asked = (*self.asked, self.views_at_once)
        if self.views_at_once > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().predict(views, **options)


def test_views_are_halved_where_that_does_not_change_the_answer(settings, monkeypatch):
    build_cache(replace(settings, output=settings.output.with_name("whole")))
    teacher = Parted()
    monkeypatch.setattr(stage, "build_teacher", lambda *_, **__: teacher)
    assert not build_cache(settings).failed
    assert teacher.asked == (25, 1, 1, 1, 1)
    assert records(settings.output) == records(settings.output.with_name("whole"))


def test_another_seed_of_the_teacher_is_another_cache(settings):
    synthetic = replace(settings, teacher="synthetic")
    build_cache(synthetic)
    with pytest.raises(ConflictError, match=r"teacher_settings\.seed: 0 → 1"):
        build_cache(replace(synthetic, seed=1), resume=True)


def test_ctrl_c_keeps_what_is_stored_and_resumes(settings, monkeypatch):
    class Stopped(Silent):
        def advance(self, steps=1, **figures):
            if "written" in figures:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(settings, progress=Stopped())
    done = len(TeacherCache(settings.output).names())
    assert 1 <= done < 4
    assert build_cache(settings, resume=True).result["finished"] == 4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_shares_are_even_disjoint_and_all(count):
    names = [f"{n:03d}" for n in range(41)]
    shares = [share_of(names, index=index, count=count) for index in range(count)]
    assert sorted(name for share in shares for name in share) == names
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if count == 4:  # what one of four leaves is spread over those who resume
        again = [set(share_of(names, index=i, count=2)) & set(shares[3]) for i in range(2)]
        assert min(map(len, again)) >= 2


@pytest.mark.parametrize("shard", ["4/4", "1", "-1/4", "0/0", "a/b", "1/2/3"])
def test_a_shard_that_is_none_is_refused(shard):
    with pytest.raises(ConfigError, match="cannot use the shard"):
        part_of(shard)


def test_torchruns_ranks_are_parts_within_parts(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    part = part_of("2/3")
    assert (part.index, part.count, part.rank, part.ranks) == (9, 12, 1, 4)


def test_a_share_without_samples_ends_well(settings):
    report = build_cache(settings, shard="5/6")
    assert (report.result["made"], report.failed) == (0, [])


class Slow(DepthTeacher):
    """Takes its time to look, and as long to have its pictures read."""

    waiting, most = 0, 0

    def prepare(self, view):
        time.sleep(0.04)
        if view.index == 0:
            type(self).waiting += 1
            type(self).most = max(self.most, self.waiting)
        return super().prepare(view)

    def predict(self, views, **options):
        type(self).waiting -= 1
        time.sleep(0.24)
        return super().predict(views, **options)


def test_the_teacher_does_not_wait_for_pictures_and_pictures_wait_for_the_teacher(
    tmp_path, monkeypatch
):
    manifest = rgbd_manifest(tmp_path, scenes=1, samples=12, views=3)
    settings = CacheSettings(manifest=manifest, output=tmp_path / "cache", size="28x42", workers=1)
    monkeypatch.setattr(stage, "build_teacher", lambda *_, **__: Slow())
    report = build_cache(settings)
    assert report.result["teacher_share"] > 0.75  # one after the other would be 0.6 at best
    assert Slow.most <= 3  # read ahead, but not all of it
