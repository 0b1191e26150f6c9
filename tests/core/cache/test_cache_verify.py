"""What `verify` finds, repairs, and asks the teacher about again."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cache_material import rgbd_manifest, smooth_targets

from distill3r_core.cache.database import DATA
from distill3r_core.cache.store import TeacherCache
from distill3r_core.cache.target_difference import ROUNDING, compare_targets
from distill3r_core.data.manifest import read_manifest, write_manifest
from distill3r_core.errors import ConflictError, InputMissingError
from distill3r_core.stages.cache import CacheSettings, build_cache
from distill3r_core.stages.cache import recompute_samples as recompute
from distill3r_core.stages.cache.verify import VerifySettings, verify_cache
from distill3r_core.teachers import DepthTeacher

NAMES = [f"data/scene{scene}/00{window}" for scene in range(2) for window in range(2)]


@pytest.fixture
def settings(tmp_path) -> CacheSettings:
    manifest = rgbd_manifest(tmp_path / "data", views=3)
    return CacheSettings(manifest=manifest, output=tmp_path / "cache", size="28x42")


@pytest.fixture
def check(settings) -> VerifySettings:
    return VerifySettings(settings.output, manifest=settings.manifest)


def without_windows(manifest: Path) -> None:
    """As the original project writes it."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with manifest.open("w", newline="") as file:
        columns = [name for name in rows[0] if name != "windows"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_a_database_that_was_deleted_is_damage_and_resume_makes_what_it_held(settings, check):
    build_cache(settings, shard="0/2")
    build_cache(settings, shard="1/2", resume=True)
    own = {
        name for name in NAMES if "0001" in str(TeacherCache(settings.output).place(name)[0].folder)
    }
    (settings.output / "shard-0001" / DATA).unlink()
    found = verify_cache(check)
    assert not found.result["ok"]
    assert "shard-0001/data.mdb is gone" in found.result["damaged"][0]
    assert set(found.result["missing"]) == own
    assert {failure.item for failure in found.failed} == own
    mended = verify_cache(replace(check, repair=True))
    assert mended.result["ok"]
    assert not mended.failed
    assert build_cache(settings, resume=True).result["made"] == len(own)
    sound = verify_cache(check)
    assert (sound.result["ok"], sound.result["missing"]) == (True, [])


def test_a_shard_that_was_deleted_is_named_sample_by_sample(settings, check):
    build_cache(settings)
    shutil.rmtree(settings.output / "shard-0000")
    found = verify_cache(check)
    assert found.result["ok"], "nothing that is there is broken"
    assert [failure.item for failure in found.failed] == NAMES
    assert not verify_cache(replace(check, repair=True)).failed
    assert build_cache(settings, resume=True).result["made"] == 4
    assert not verify_cache(check).failed


def test_windows_are_cut_as_the_cache_run_cut_them(settings, check):
    without_windows(settings.manifest)
    build_cache(replace(settings, views=2))
    assert TeacherCache(settings.output).header.views == 2
    found = verify_cache(replace(check, recompute=2))
    assert found.result["ok"]
    assert found.result["changed"] == []
    assert [one["verdict"] for one in found.result["recomputed"]] == ["identical"] * 2


def test_other_windows_of_a_manifest_without_any_are_other_settings(settings):
    without_windows(settings.manifest)
    build_cache(replace(settings, views=2))
    with pytest.raises(ConflictError, match="views: 2 → 3"):
        build_cache(replace(settings, views=3), resume=True)
    assert build_cache(replace(settings, views=2), resume=True).finished_before


def test_windows_of_the_manifests_own_depend_on_no_setting(settings):
    build_cache(settings)
    assert build_cache(replace(settings, views=7), resume=True).finished_before


class Changed(DepthTeacher):
    """Sees everything a little farther away."""

    by = 1.0

    def predict(self, views, **options):
        raw = super().predict(views, **options)
        return replace(raw, points_local=[self.by * points for points in raw.points_local])


@pytest.mark.parametrize(
    ("by", "verdict"), [(1.0, "identical"), (1 + 2**-10, "rounding"), (1.01, "different")]
)
def test_a_teacher_that_answers_otherwise_is_told_and_is_no_damage(
    settings, check, monkeypatch, by, verdict
):
    build_cache(settings)
    monkeypatch.setattr(recompute, "build_teacher", lambda *_, **__: Changed())
    monkeypatch.setattr(Changed, "by", by)
    found = verify_cache(replace(check, recompute=2))
    assert found.result["ok"]
    assert [one["verdict"] for one in found.result["recomputed"]] == [verdict] * 2
    assert len(found.failed) == (2 if verdict == "different" else 0)
    assert all("recomputed targets differ" in one.reason for one in found.failed)


def test_what_cannot_be_asked_is_said_before_the_long_work(settings, check, tmp_path):
    build_cache(settings)
    (settings.output / "shard-0000" / DATA).write_bytes(b"")  # would be found otherwise
    with pytest.raises(InputMissingError, match="no manifest"):
        verify_cache(replace(check, recompute=1, manifest=tmp_path / "gone.csv"))
    manifest = read_manifest(settings.manifest)
    write_manifest(
        tmp_path / "other.csv", [replace(row, scene_id="elsewhere") for row in manifest.rows]
    )
    with pytest.raises(InputMissingError, match="none of the samples"):
        verify_cache(replace(check, recompute=1, manifest=tmp_path / "other.csv"))


def test_samples_that_are_broken_or_changed_are_not_asked_about(settings, check):
    build_cache(settings)
    (settings.manifest.parent / "images/scene0_000.png").write_bytes(b"no picture")
    found = verify_cache(replace(check, recompute=4))
    assert found.result["changed"] == NAMES[:1]
    assert sorted(one["sample"] for one in found.result["recomputed"]) == NAMES[1:]
    assert any("3 samples" in note for note in found.notes)


def test_a_broken_detail_is_damage_of_its_sample(settings, check):
    build_cache(settings)
    data = settings.output / "shard-0000" / DATA
    bytes_ = data.read_bytes()
    word = b'"images/scene0_000.png"'
    assert word in bytes_
    data.write_bytes(bytes_.replace(word, word.swapcase()))
    found = verify_cache(replace(check, recompute=4))
    (damaged,) = found.result["damaged"]
    assert NAMES[0] in damaged
    assert len(found.result["recomputed"]) == 3
    assert found.result["missing"] == []


def test_noise_of_a_coordinate_near_zero_is_measured_by_its_point():
    targets = smooth_targets()
    points = targets.points_local.clone()
    points[..., 0] += 2.0**-13  # less than a step of z, many of an x near zero
    moved = replace(targets, points_local=points)
    difference = compare_targets(targets, moved)
    assert difference.verdict == "rounding"
    assert 0 < difference.largest_step <= ROUNDING
    assert difference.equal < 1


def test_a_pixel_at_the_threshold_may_come_or_go_and_no_other_may():
    targets = smooth_targets()
    mask = targets.valid_mask.clone()
    place = tuple(int(n) for n in mask.nonzero()[0])
    mask[place] = False
    confidence = float(targets.confidence_local[place])
    without = replace(targets, valid_mask=mask)
    at_it = compare_targets(targets, without, level=confidence - 2.0**-10)
    assert (at_it.verdict, at_it.flipped, at_it.unexplained) == ("rounding", 1, 0)
    for level in (confidence - 0.1, None):
        assert compare_targets(targets, without, level=level).verdict == "different"
    assert compare_targets(targets, targets).verdict == "identical"


def test_a_bit_of_the_float16_values_is_enough_not_to_be_identical():
    targets = smooth_targets()
    doubt = targets.confidence_global.clone()
    place = tuple(int(n) for n in targets.valid_mask.nonzero()[0])
    doubt[place] = torch.nextafter(doubt[place].half(), torch.tensor(9).half()).float()
    difference = compare_targets(targets, replace(targets, confidence_global=doubt))
    assert (difference.verdict, difference.largest_step) == ("rounding", 1)
