"""`manifest` run again: what changed is done again, the rest stays."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from trees import photos, rejected, rgbd_scene, save_depth, save_picture, save_pose, tree_of

from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import (
    ConflictError,
)
from distill3r_core.report import Silent
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def test_a_second_run_does_nothing(tmp_path, out) -> None:
    settings = ManifestSettings((rgbd_scene(tmp_path / "room", 6),), out)
    assert not build_manifest(settings).finished_before
    before, text = tree_of(out), (out / "manifest.csv").read_text()
    report = build_manifest(settings)
    assert report.finished_before
    assert tree_of(out) == before
    assert (out / "manifest.csv").read_text() == text


def test_a_pose_of_equal_size_and_time_is_noticed_with_check(tmp_path, out) -> None:
    room = rgbd_scene(tmp_path / "room", 6)
    settings = ManifestSettings((room,), out, val_scenes=0.0)
    build_manifest(settings)
    assert build_manifest(settings, check=True).finished_before
    pose, before = room / "pose" / "000002.txt", (out / "manifest.csv").read_text()
    stamp, text = pose.stat(), pose.read_text()
    save_pose(pose, 9.0)
    changed = pose.read_text()
    assert changed != text
    pose.write_text(changed.ljust(len(text))[: max(len(text), len(changed))])
    if pose.stat().st_size != stamp.st_size:  # blanks at the end do not count
        room_for = pose.stat().st_size
        pose.write_text(text.ljust(room_for))
        build_manifest(settings)
        stamp = pose.stat()
        pose.write_text(changed.ljust(room_for))
    os.utime(pose, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert build_manifest(settings).finished_before  # cannot know, as docs/manifest.md says
    assert (out / "manifest.csv").read_text() == before
    assert not build_manifest(settings, check=True).finished_before
    build_manifest(ManifestSettings((room,), tmp_path / "fresh", val_scenes=0.0))
    fresh = (tmp_path / "fresh" / "manifest.csv").read_text()
    assert (out / "manifest.csv").read_text() == fresh != before


@pytest.mark.parametrize("what", ["picture", "depth", "pose", "intrinsics", "output", "lost"])
def test_only_what_changed_is_done_again(tmp_path, out, what) -> None:
    room = rgbd_scene(tmp_path / "room", 6)
    settings = ManifestSettings((room,), out, val_scenes=0.0)
    build_manifest(settings)
    before = tree_of(out)
    if what == "picture":
        save_picture(room / "rgb" / "000002.png", 99)
    elif what == "depth":
        save_depth(room / "depth" / "000002.png", 4000)
    elif what == "pose":
        save_pose(room / "pose" / "000002.txt", 9.0)
    elif what == "intrinsics":
        (room / "intrinsics.txt").write_text("31 0 16\n0 31 12\n0 0 1\n")
    elif what == "output":
        Image.new("RGB", (32, 24)).save(out / "images" / "room" / "room" / "000002.png")
    else:
        (out / "depth" / "room" / "room" / "000002.png").unlink()
    report = build_manifest(settings)
    assert not report.finished_before
    after = tree_of(out)
    assert after.keys() == before.keys()
    touched = {Path(name).stem for name in before if after[name][0] != before[name][0]}
    assert touched == ({f"{n:06d}" for n in range(6)} if what == "intrinsics" else {"000002"})
    if what in ("output", "lost"):
        assert {name: data for name, (_, data) in after.items()} == {
            name: data for name, (_, data) in before.items()
        }
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    build_manifest(ManifestSettings((room,), tmp_path / "fresh", val_scenes=0.0))
    fresh = (tmp_path / "fresh" / "manifest.csv").read_text()
    assert (out / "manifest.csv").read_text() == fresh


def test_other_settings_are_a_conflict_that_names_them(tmp_path, out) -> None:
    root = photos(tmp_path / "a", 6)
    build_manifest(ManifestSettings((root,), out))
    text = (out / "manifest.csv").read_text()
    with pytest.raises(ConflictError, match="views: 20 → 3"):
        build_manifest(ManifestSettings((root,), out, views=3))
    assert (out / "manifest.csv").read_text() == text
    build_manifest(ManifestSettings((root,), out, views=3), overwrite=True)
    assert read_manifest(out / "manifest.csv").samples()[0].rows[2:] != ()


def test_replacing_a_manifest_says_what_it_drops(tmp_path, out) -> None:
    first, second = photos(tmp_path / "first", 6), photos(tmp_path / "second", 5)
    build_manifest(ManifestSettings((first, second), out))
    progress = Silent()
    settings = ManifestSettings((second,), out, views=3)
    build_manifest(settings, overwrite=True, progress=progress)
    (note,) = progress.notes
    assert str(first) in note
    assert {row.dataset for row in read_manifest(out / "manifest.csv").rows} == {"second"}


def test_pictures_that_are_gone_leave_the_manifest(tmp_path, out) -> None:
    root = photos(tmp_path / "a", 6)
    build_manifest(ManifestSettings((root,), out, val_scenes=0.0))
    (root / "IMG_10.png").unlink()
    build_manifest(ManifestSettings((root,), out, val_scenes=0.0))
    rows = read_manifest(out / "manifest.csv").rows
    assert [Path(row.image_path).stem for row in rows] == [f"IMG_{n}" for n in (8, 9, 11, 12, 13)]


def test_somebody_elses_manifest_is_a_conflict(tmp_path, out) -> None:
    out.mkdir()
    (out / "manifest.csv").write_text("mine\n")
    with pytest.raises(ConflictError, match="was not written by"):
        build_manifest(ManifestSettings((photos(tmp_path / "a", 3),), out))
    assert (out / "manifest.csv").read_text() == "mine\n"


def test_a_new_root_is_added_and_the_others_stay(tmp_path, out) -> None:
    first, second = photos(tmp_path / "first", 6), photos(tmp_path / "second", 5)
    (first / "broken.png").write_bytes(b"")
    (second / "torn.png").write_bytes(b"x")
    build_manifest(ManifestSettings((first,), out))
    alone = read_manifest(out / "manifest.csv").rows
    build_manifest(ManifestSettings((second,), out))
    both = read_manifest(out / "manifest.csv").rows
    assert tuple(row for row in both if row.dataset == "first") == alone
    assert {row.dataset for row in both} == {"first", "second"}
    assert set(rejected(out)) == {"broken.png", "torn.png"}
    (first / "broken.png").unlink()
    build_manifest(ManifestSettings((first,), out))
    assert set(rejected(out)) == {"torn.png"}
    together = tmp_path / "together"
    build_manifest(ManifestSettings((second, first), together))
    text = (together / "manifest.csv").read_text()
    assert (out / "manifest.csv").read_text() == text


def test_roots_of_one_name_are_kept_apart(tmp_path, out) -> None:
    one, other = photos(tmp_path / "x" / "photos", 3), photos(tmp_path / "y" / "photos", 4)
    build_manifest(ManifestSettings((one,), out))
    build_manifest(ManifestSettings((other,), out))
    build_manifest(ManifestSettings((one, other), out))
    counts: dict[str, int] = {}
    for row in read_manifest(out / "manifest.csv").rows:
        counts[row.dataset] = counts.get(row.dataset, 0) + 1
    assert counts == {"photos": 3, "photos-2": 4}


def test_two_runs_at_once_are_a_conflict(tmp_path, out) -> None:
    import fcntl

    out.mkdir()
    with (out / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="another run"):
            build_manifest(ManifestSettings((photos(tmp_path / "a", 3),), out))
