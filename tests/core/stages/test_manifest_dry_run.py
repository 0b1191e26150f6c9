"""`manifest --dry-run` says what samples will take, and writes nothing."""

import pytest
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
