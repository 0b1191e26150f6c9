"""`manifest --dry-run` says what samples will take, and writes nothing."""

import shutil

import pytest
from recorded_trees import write_strayscanner
from trees import photos, rgbd_scene, save_picture

from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def planned(settings: ManifestSettings, **options) -> dict:
    report = build_manifest(settings, dry_run=True, **options)
    assert not settings.output.exists()
    (figures,) = report.result["datasets"]
    return figures


def test_the_images_take_what_was_expected(tmp_path, out) -> None:
    settings = ManifestSettings((photos(tmp_path / "few", 4),), out, val_scenes=0.0)
    expected = planned(settings)
    build_manifest(settings)
    written = [path.stat().st_size for path in (out / "images").rglob("*.png")]
    assert len(written) == expected["images"] == 4
    assert expected["image_bytes"] == sum(written)


def test_views_of_all_samples_are_cached_and_seen_by_the_teacher(tmp_path, out) -> None:
    root = photos(tmp_path / "few", 10)
    settings = ManifestSettings((root,), out, views=4, stride=2, val_scenes=0.0)
    expected = planned(settings, teacher_rate=0.5)
    # Five of ten images: a sample of the first four, and one aligned to the end for the fifth.
    assert expected["samples"] == {"train": 2, "val": 0}
    assert expected["stride"] == [2, 2]
    assert expected["views"] == 8
    assert expected["cache_bytes"] == round(8 * 224 * 518 * 5.5)
    assert expected["teacher_hours"] == pytest.approx(8 / 0.5 / 3600)


def test_a_cache_of_depth_is_smaller(tmp_path, out) -> None:
    settings = ManifestSettings((rgbd_scene(tmp_path / "room", 4),), out, val_scenes=0.0)
    assert planned(settings)["cache_bytes"] == round(4 * 224 * 518 * 3.0)


def test_a_scene_without_an_order_is_named(tmp_path, out) -> None:
    for number, name in enumerate(("oak", "ash", "elm")):
        save_picture(tmp_path / "trees" / f"{name}.png", number)
    notes = build_manifest(ManifestSettings((tmp_path / "trees",), out), dry_run=True).notes
    assert any("no order is known of trees" in note for note in notes)
    photos(tmp_path / "numbered", 3)
    notes = build_manifest(ManifestSettings((tmp_path / "numbered",), out), dry_run=True).notes
    assert not any("no order is known" in note for note in notes)


@pytest.mark.parametrize("fps", [2.0, 0.5])
def test_a_dry_run_says_what_comes_of_a_video(data_dir, tmp_path, out, fps) -> None:
    pytest.importorskip("av")
    settings = ManifestSettings((data_dir / "video",), out, video_fps=fps)
    expected = planned(settings)
    made = build_manifest(settings)
    (figures,) = made.result["datasets"]
    assert figures["images"] == (17 if fps > 1 else 9)
    assert {name: expected[name] for name in figures} == figures
    written = sum(path.stat().st_size for path in (out / "images").rglob("*.png"))
    assert expected["image_bytes"] == pytest.approx(written, rel=0.1)  # by the first frame
    # What has been taken out of it since is known to the pixel.
    report = build_manifest(settings, dry_run=True)
    assert report.result["datasets"][0]["image_bytes"] == pytest.approx(written, rel=0.02)


def test_a_dry_run_counts_what_is_recorded_beside_a_video(tmp_path, out) -> None:
    settings = ManifestSettings(
        (write_strayscanner(tmp_path / "walk"),), out, video_fps=100.0, val_scenes=0.0
    )
    expected = planned(settings)
    (figures,) = build_manifest(settings, trust=True).result["datasets"]
    assert (expected["frames"], expected["images"]) == (12, 11)  # one has no depth
    assert {**figures, "depth_agreement": None} == {name: expected[name] for name in figures}
    assert expected["cache_bytes"] == round(11 * 224 * 518 * 3.0)


def test_a_dry_run_names_a_video_that_cannot_be_read(data_dir, tmp_path, out) -> None:
    pytest.importorskip("av")
    photos(tmp_path / "trip", 3)
    shutil.copy(data_dir / "bad" / "truncated.mp4", tmp_path / "trip")
    report = build_manifest(ManifestSettings((tmp_path / "trip",), out), dry_run=True)
    assert [failed.item.rsplit("/", 1)[-1] for failed in report.failed] == ["truncated.mp4"]
