"""The stage `manifest`: splits, windows, incremental runs, what is left out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import chess, color_of, photos, rejected, rgbd_scene, save_picture, tree_of, two_colors

from distill3r_core import config
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import (
    ConfigError,
    InputMissingError,
    NothingUsableError,
    RequestError,
)
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def windows(out: Path) -> dict[str, list[str]]:
    samples = read_manifest(out / "manifest.csv").samples()
    return {sample.name: [row.sample_id for row in sample.rows] for sample in samples}


def test_frames_follow_their_numbers_and_keep_their_pixels(tmp_path, out) -> None:
    build_manifest(ManifestSettings((photos(tmp_path / "tour", 5),), out, val_scenes=0.0))
    rows = read_manifest(out / "manifest.csv").rows
    assert [row.sample_id for row in rows] == [f"{n:06d}" for n in range(5)]
    for frame, row in enumerate(rows):
        with Image.open(out / row.image_path) as picture:
            assert picture.getpixel((0, 0)) == color_of(frame)
    assert (rows[0].dataset, rows[0].scene_id, rows[0].order) == ("tour", "tour", "number")
    assert (rows[0].H, rows[0].W, rows[0].K_source) == (24, 32, "none")
    assert (rows[0].unit, rows[0].pose, rows[0].depth_path) == ("none", None, "")


def test_first_frames_train_and_the_last_are_held_out(data_dir, out) -> None:
    """Issue: `manifest --stride 1 --val-frames last:40` on the kitchen frames, at a small size."""
    settings = ManifestSettings(
        (data_dir / "7scenes_kitchen",), out, stride=1, val_frames="last:40", resize_max=64
    )
    report = build_manifest(settings)
    rows = read_manifest(out / "manifest.csv").rows
    numbers = [5 * n for n in range(140)]
    assert [row.sample_id for row in rows] == [f"{n:06d}" for n in numbers]
    assert [row.split for row in rows] == ["train"] * 100 + ["val"] * 40
    assert report.result["samples"] == {"train": 5, "val": 2}
    assert {row.K_source for row in rows} == {"calibrated"}
    assert {row.depth_format for row in rows} == {"png16mm"}
    found = list(windows(out).values())
    assert [len(window) for window in found] == [20] * 7
    assert sorted(name for window in found for name in window) == [row.sample_id for row in rows]
    assert any("both splits" in note for note in report.notes)


def test_by_default_all_frames_of_a_recording_that_was_thinned_before_are_kept(
    data_dir, out
) -> None:
    """Issue: `manifest data/7scenes_kitchen` keeps 140 of 140 frames, every fifth of the whole."""
    report = build_manifest(ManifestSettings((data_dir / "7scenes_kitchen",), out, resize_max=64))
    rows = read_manifest(out / "manifest.csv").rows
    assert [int(row.sample_id) for row in rows] == [5 * n for n in range(140)]
    assert not report.failed
    # Each is in a sample, too.
    used = [name for window in windows(out).values() for name in window]
    assert set(used) == {row.sample_id for row in rows}


def test_by_default_the_last_tenth_is_held_out(tmp_path, out) -> None:
    report = build_manifest(ManifestSettings((rgbd_scene(tmp_path / "room", 30),), out, views=4))
    rows = read_manifest(out / "manifest.csv").rows
    assert [row.split for row in rows].count("val") == 3
    assert rows[-1].split == "val"
    assert report.result["samples"]["val"] == 1
    assert any("last 10 %" in note for note in report.notes)


def test_no_window_crosses_the_split(tmp_path, out) -> None:
    room = rgbd_scene(tmp_path / "room", 23)
    build_manifest(ManifestSettings((room,), out, views=4, val_frames="every:5"))
    for sample in read_manifest(out / "manifest.csv").samples():  # raises where one crosses
        held = [int(row.sample_id) % 5 == 2 for row in sample.rows]
        assert all(held) or not any(held)


def test_frames_that_no_window_uses_are_left_out(tmp_path, out) -> None:
    settings = ManifestSettings(
        (photos(tmp_path / "a", 11),), out, views=4, stride=1, val_scenes=0.0
    )
    report = build_manifest(settings)
    assert report.result["images"] == 11  # the tail of three is aligned to the end
    assert [len(window) for window in windows(out).values()] == [4, 4, 4]
    shutil.rmtree(out)
    report = build_manifest(
        ManifestSettings(
            (photos(tmp_path / "b", 9),),
            out,
            views=4,
            stride=1,
            val_scenes=0.0,
            samples_per_scene=5,
        )
    )
    assert report.result["images"] == 8
    assert len(list((out / "images").rglob("*.png"))) == 8


def test_stride_and_samples_are_what_was_asked_for(tmp_path, out) -> None:
    settings = ManifestSettings(
        (photos(tmp_path / "a", 60),),
        out,
        views=3,
        stride=5,
        samples_per_scene=2,
        val_scenes=0.0,
    )
    build_manifest(settings)
    assert windows(out) == {
        "a/a/000": ["000000", "000005", "000010"],
        "a/a/001": ["000045", "000050", "000055"],
    }


def test_a_stride_by_pose_follows_the_camera(tmp_path, out) -> None:
    room = rgbd_scene(tmp_path / "room", 16)  # 0.1 m from frame to frame
    build_manifest(ManifestSettings((room,), out, views=3, stride="pose", val_scenes=0.0))
    assert [int(name) for name in windows(out)["room/room/000"]] == [0, 3, 6]
    with pytest.raises(RequestError, match="needs poses"):
        build_manifest(
            ManifestSettings((photos(tmp_path / "a", 4),), tmp_path / "b", stride="pose")
        )


def test_the_originals_policy_may_be_chosen(tmp_path, out) -> None:
    settings = ManifestSettings(
        (photos(tmp_path / "a", 11),), out, views=4, policy="release", val_scenes=0.0
    )
    build_manifest(settings)
    assert [len(window) for window in windows(out).values()] == [4, 4]


def test_a_split_file_decides(tmp_path, out) -> None:
    report = build_manifest(ManifestSettings((chess(tmp_path / "7scenes"),), out, views=4))
    for row in read_manifest(out / "manifest.csv").rows:
        assert (row.split == "val") == row.scene_id.endswith("seq-02")
    assert any("seq-07" in note for note in report.notes)
    assert not report.failed


def test_every_bad_picture_is_listed_and_the_rest_is_kept(data_dir, out) -> None:
    report = build_manifest(ManifestSettings((data_dir / "bad",), out, val_scenes=0.0, stride=1))
    failed = {Path(failure.item).name for failure in report.failed}
    assert set(rejected(out)) == failed | {"no_extension", "inside.txt"}  # no pictures by name
    assert failed == {
        "truncated.jpg",
        "truncated_header.jpg",
        "truncated.png",
        "bad_crc.png",
        "zero_byte.png",
        "text_named.jpg",
        "bomb_header.png",
        "bomb_header_max.png",
        "float_nan.tiff",
        "one_by_one.png",
        "thin_13x200.png",
        "extreme_aspect_2560x4.png",
        "truncated.mp4",
        "text_named.mp4",
        "zero_byte.mp4",
    }
    assert report.result["rejected"] == 15
    assert any("animated" in note for note in report.notes)


def test_every_bad_frame_of_sevenscenes_is_listed(data_dir, out, tmp_path) -> None:
    report = build_manifest(ManifestSettings((data_dir / "bad_7scenes",), out))
    assert {name[6:12] for name in rejected(out)} == {
        f"{n:06d}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14)
    }
    rows = read_manifest(out / "manifest.csv").rows
    assert [int(row.sample_id) for row in rows] == [0, 12, 15]
    assert {row.split for row in rows} == {"train"}
    assert any("is not there" in note for note in report.notes)
    pictures = tmp_path / "pictures"
    build_manifest(ManifestSettings((data_dir / "bad_7scenes",), pictures, images_only=True))
    rows = read_manifest(pictures / "manifest.csv").rows
    assert 2 in [int(row.sample_id) for row in rows]
    assert {(row.depth_path, row.pose, row.unit) for row in rows} == {("", None, "none")}
    # Its depth, without a picture, is of no frame.
    assert list(rejected(pictures)) == ["frame-000003.color.png", "frame-000003.depth.png"]


def test_a_broken_frame_moves_the_windows(tmp_path, out) -> None:
    photos(tmp_path / "a", 9)
    (tmp_path / "a" / "IMG_9.png").write_bytes(b"")
    settings = ManifestSettings((tmp_path / "a",), out, views=4, stride=1, val_scenes=0.0)
    build_manifest(settings)
    assert windows(out) == {
        "a/a/000": ["000000", "000002", "000003", "000004"],
        "a/a/001": ["000005", "000006", "000007", "000008"],
    }


def test_a_scene_of_one_frame_is_rejected(tmp_path, out) -> None:
    photos(tmp_path / "t" / "pair", 2)
    photos(tmp_path / "t" / "single", 1)
    build_manifest(ManifestSettings((tmp_path / "t",), out))
    assert rejected(out) == {"single": "it has one frame; a sample needs 2 frames"}


def test_nothing_usable_is_an_error_that_lists_reasons(tmp_path, out) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(NothingUsableError, match="no pictures under"):
        build_manifest(ManifestSettings((tmp_path / "a",), out))
    (tmp_path / "a" / "x.png").write_bytes(b"")
    with pytest.raises(NothingUsableError, match=r"x\.png: empty file"):
        build_manifest(ManifestSettings((tmp_path / "a",), out))
    assert rejected(out) == {"x.png": "empty file"}
    assert not (out / "manifest.csv").exists()
    with pytest.raises(InputMissingError, match="nowhere"):
        build_manifest(ManifestSettings((tmp_path / "nowhere",), out))


def test_a_dry_run_writes_nothing(tmp_path, out) -> None:
    room = rgbd_scene(tmp_path / "room", 6)
    planned = build_manifest(ManifestSettings((room,), out), dry_run=True)
    assert not out.exists()
    done = build_manifest(ManifestSettings((room,), out))
    for key in ("images", "samples", "scenes"):
        assert planned.result[key] == done.result[key]


def test_a_fraction_of_the_scenes_is_kept(tmp_path, out) -> None:
    for number in range(10):
        photos(tmp_path / "t" / f"scene{number}", 3)
    report = build_manifest(ManifestSettings((tmp_path / "t",), out, sample_frac=0.4))
    assert report.result["scenes"] == 4


def test_large_pictures_are_brought_to_the_limit(tmp_path, out) -> None:
    for frame in range(3):
        save_picture(tmp_path / "a" / f"{frame}.jpg", frame, (200, 100))
    build_manifest(ManifestSettings((tmp_path / "a",), out, resize_max=50))
    row = read_manifest(out / "manifest.csv").rows[0]
    assert (row.H, row.W) == (50, 25)
    assert row.K == (50, 0, 12.5, 0, 50, 25, 0, 0, 1)


def test_names_of_any_script_and_length_are_kept(tmp_path, out) -> None:
    folder = tmp_path / "ünï 写真"
    for name in ("a b,c", 'quo"te', "写真", "x" * 200, "é"):
        save_picture(folder / f"{name}.png", 1)
    build_manifest(ManifestSettings((folder,), out, val_scenes=0.0))
    manifest = read_manifest(out / "manifest.csv")
    assert len(manifest.rows) == 5
    assert all((out / row.image_path).is_file() for row in manifest.rows)
    assert {row.dataset for row in manifest.rows} == {"ünï 写真"}


def test_settings_that_do_not_fit_are_refused() -> None:
    from distill3r_core.config import validate

    values = {"roots": ["x"], "views": 1, "val_frames": "some", "layout": "panorama", "stride": 0}
    with pytest.raises(ConfigError) as caught:
        validate(ManifestSettings, values, source="x")
    for name in ("views", "val_frames", "layout", "stride"):
        assert f"  {name}: " in caught.value.message
    with pytest.raises(ConfigError, match="release has none"):
        validate(ManifestSettings, {"roots": ["x"], "stride": 2, "policy": "release"}, source="x")


def test_a_folder_that_cannot_be_written_is_said(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot write to"):
        build_manifest(ManifestSettings((photos(tmp_path / "a", 3),), tmp_path / "file" / "data"))


def test_a_pattern_file_makes_its_data_sets(tmp_path, out) -> None:
    for scene in ("s1", "s2"):
        photos(tmp_path / "co3d" / "apple" / scene / "images", 6, name="frame{:06d}.jpg")
    path = tmp_path / "data_paths.yaml"
    path.write_text(
        f"datasets:\n  - {{name: CO3D, root: {tmp_path}/co3d, pattern: '**/images/*.jpg', "
        "sample_frac: 1.0, split: train, resize_max: 28}\n"
    )
    build_manifest(ManifestSettings((path,), out, views=3))
    rows = read_manifest(out / "manifest.csv").rows
    assert {row.scene_id for row in rows} == {"apple/s1", "apple/s2"}
    assert {(row.dataset, row.split, row.W) for row in rows} == {("CO3D", "train", 28)}
    assert windows(out)["CO3D/apple/s1/000"] == ["000000", "000002", "000004"]  # a turn: stride 2


def test_depth_of_another_unit_than_meters_keeps_its_numbers(tmp_path, out) -> None:
    room = rgbd_scene(tmp_path / "room", 3)
    build_manifest(ManifestSettings((room,), out, val_scenes=0.0))
    for frame, row in enumerate(read_manifest(out / "manifest.csv").rows):
        with Image.open(out / row.depth_path) as depth:
            assert np.unique(np.asarray(depth)).tolist() == [1000 + frame]


def test_a_video_is_a_scene_of_its_frames(data_dir, out) -> None:
    pytest.importorskip("av")
    settings = ManifestSettings((data_dir / "video",), out, val_scenes=0.0, stride=1)
    report = build_manifest(settings)
    rows = read_manifest(out / "manifest.csv").rows
    assert [int(row.sample_id) for row in rows] == list(range(17))
    assert {(row.scene_id, row.H, row.W) for row in rows} == {("kitchen.mp4", 480, 640)}
    assert not report.failed
    before = tree_of(out)
    assert build_manifest(settings).finished_before
    assert tree_of(out) == before


def test_a_video_by_its_name_is_what_it_is_in_its_folder(data_dir, tmp_path) -> None:
    pytest.importorskip("av")
    for root, out in ((data_dir / "video", "folder"), (data_dir / "video/kitchen.mp4", "file")):
        settings = ManifestSettings((root,), tmp_path / out, resize_max=64)
        build_manifest(settings)
        assert build_manifest(settings).finished_before
    folder, file = (
        [
            (row.scene_id, row.sample_id, row.split, row.picture, row.windows)
            for row in read_manifest(tmp_path / out / "manifest.csv").rows
        ]
        for out in ("folder", "file")
    )
    assert file == folder and len(file) == 17
    with pytest.raises(NothingUsableError, match=r"truncated\.mp4: not a video, or damaged"):
        build_manifest(ManifestSettings((data_dir / "bad" / "truncated.mp4",), tmp_path / "bad"))


def test_phone_pictures_are_read(tmp_path, out) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    (tmp_path / "phone").mkdir()
    for frame in range(3):
        two_colors(frame, (48, 64)).save(tmp_path / "phone" / f"IMG_{frame}.HEIC", quality=90)
    build_manifest(ManifestSettings((tmp_path / "phone",), out, val_scenes=0.0))
    rows = read_manifest(out / "manifest.csv").rows
    assert [(row.H, row.W) for row in rows] == [(48, 64)] * 3


def test_a_root_that_is_a_link_to_itself_is_not_there(tmp_path, out) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputMissingError, match=str(tmp_path / "a")):
        build_manifest(ManifestSettings((tmp_path / "a",), out))


@pytest.mark.parametrize("values", [{"roots": [""]}, {"roots": ["a"], "output": ""}])
def test_an_empty_name_is_not_the_folder_this_runs_in(values) -> None:
    with pytest.raises(ConfigError, match="empty name"):
        config.validate(ManifestSettings, values, source="here")


def test_one_sample_can_hold_a_whole_scene(tmp_path):
    options = {
        "roots": (rgbd_scene(tmp_path / "room", 9),), "output": tmp_path / "data", "views": "all",
        "stride": 1, "val_frames": "last:3",
    }  # fmt: skip
    build_manifest(config.resolve(ManifestSettings, section="manifest", options=options))
    samples = read_manifest(tmp_path / "data/manifest.csv").samples(views=20)
    assert [(sample.split, len(sample.rows)) for sample in samples] == [("train", 6), ("val", 3)]
