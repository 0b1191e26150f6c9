"""Every layout lists its frames in their order, and says what it left out."""

import os
from pathlib import Path

import numpy as np
import pytest
from trees import chess, photos, rgbd_scene, save_picture, sevenscenes_sequence

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import detect_layout, frames_for_test, scan
from distill3r_core.data.layouts.folders import frame_key
from distill3r_core.data.listing import list_dataset
from distill3r_core.errors import ConfigError, ImageError, InputMissingError, RequestError


def one(root: Path, layout: str = "auto", **options):
    (found,) = scan(root, layout, **options)
    return list_dataset(found)


def test_numbers_sort_as_numbers() -> None:
    names = ["IMG_10.jpg", "IMG_9.jpg", "img_9.png", "a_1000.003.png", "a_999.870.png", "IMG_09"]
    assert sorted(names, key=frame_key) == [
        "a_999.870.png",
        "a_1000.003.png",
        "IMG_09",
        "IMG_9.jpg",
        "img_9.png",
        "IMG_10.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("7scenes_kitchen", "7scenes"),
        ("7scenes_kitchen/redkitchen", "7scenes"),
        ("7scenes_kitchen/redkitchen/seq-01", "7scenes"),
        ("bad_7scenes", "7scenes"),
        ("castle", "images"),
        ("bad", "images"),
    ],
)
def test_the_layout_of_real_data_is_found(data_dir, name, layout) -> None:
    assert detect_layout(data_dir / name)[0].name == layout


def test_a_folder_of_photos_is_a_scene(tmp_path) -> None:
    found = one(photos(tmp_path / "house", 5))
    (scene,) = found.scenes
    assert (found.name, found.layout.name, scene.scene_id) == ("house", "images", "house")
    assert [frame.name for frame in scene.frames] == [f"IMG_{n}" for n in range(8, 13)]
    assert scene.order == "number"


def test_a_folder_of_folders_is_many(tmp_path) -> None:
    for name in ("b10", "b9", "deep/er"):
        photos(tmp_path / "tour" / name, 2)
    found = one(tmp_path / "tour")
    assert [scene.scene_id for scene in found.scenes] == ["b9", "b10", "deep/er"]


def test_hidden_files_and_folders_do_not_count(data_dir, tmp_path) -> None:
    names = {frame.image.name for frame in one(data_dir / "bad").scenes[0].frames}
    assert not {".hidden.jpg", "._100_7100.JPG", "Thumbs.db", "no_extension", "folder.jpg"} & names
    photos(tmp_path / "a" / ".thumbnails", 3)
    photos(tmp_path / "a", 2)
    assert len(one(tmp_path / "a").scenes) == 1


def test_the_folder_of_results_is_not_data(tmp_path) -> None:
    photos(tmp_path, 3)
    photos(tmp_path / "data" / "images", 3)
    found = one(tmp_path, skip=tmp_path / "data")
    assert [len(scene.frames) for scene in found.scenes] == [3]


def test_links_are_followed_once(tmp_path) -> None:
    photos(tmp_path / "real", 3)
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = one(tmp_path)
    assert [len(scene.frames) for scene in found.scenes] == [3]
    assert [item.reason for item in found.refused] == ["a link that leads nowhere"]


def test_names_of_no_encoding_are_left_out(tmp_path) -> None:
    photos(tmp_path / "a", 2)
    raw = os.fsencode(tmp_path / "a") + b"/bad\xff.png"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    assert [item.reason for item in one(tmp_path / "a").refused] == ["its name is not valid UTF-8"]


def test_equal_stems_keep_their_extensions(tmp_path) -> None:
    save_picture(tmp_path / "a.png", 0)
    save_picture(tmp_path / "a.jpg", 1)
    save_picture(tmp_path / "b.jpg", 1)
    names = [frame.name for frame in one(tmp_path).scenes[0].frames]
    assert names == ["a.jpg", "a.png", "b"]


def test_a_raw_photograph_is_refused_but_for_the_one_beside_its_image(tmp_path) -> None:
    save_picture(tmp_path / "a.jpg", 0)
    (tmp_path / "a.NEF").write_bytes(b"x")
    (tmp_path / "b.DNG").write_bytes(b"x")
    found = one(tmp_path)
    assert [item.path.name for item in found.refused] == ["b.DNG"]
    assert [item.path.name for item in found.left_out] == ["a.NEF"]


def test_sevenscenes_lists_files_and_not_numbers(data_dir) -> None:
    (scene,) = one(data_dir / "7scenes_kitchen").scenes
    assert scene.scene_id == "redkitchen/seq-01"
    assert [frame.number for frame in scene.frames] == list(range(0, 700, 5))


def test_sevenscenes_with_its_traps(tmp_path) -> None:
    found = one(chess(tmp_path / "7scenes"))
    assert [(s.scene_id, s.split, len(s.frames)) for s in found.scenes] == [
        ("chess/seq-01", "train", 12),
        ("chess/seq-02", "val", 11),
    ]
    assert found.notes == ("chess/seq-07 is named in a split file and is not there",)
    assert [frame.number for frame in found.scenes[1].frames] == list(range(0, 33, 3))
    depth = read_source_frame(found.scenes[0].frames[4]).depth
    assert depth is not None
    assert 0 < (depth > 0).mean() < 0.5
    assert depth.max() < 2  # neither code is a distance


def test_both_splits_are_training_with_a_note_and_still_test_data(data_dir) -> None:
    found = one(data_dir / "7scenes_kitchen")
    assert found.scenes[0].split == "train"
    assert found.notes == ("redkitchen/seq-01 is named in both splits: it is training data",)
    ((name, frames),) = frames_for_test(data_dir / "7scenes_kitchen")
    assert name == "7scenes_kitchen/redkitchen/seq-01"
    assert len(frames) == 140


def test_test_frames_are_those_of_the_test_split(tmp_path) -> None:
    root = chess(tmp_path / "7scenes")
    assert [name for name, _ in frames_for_test(root)] == ["7scenes/chess/seq-02"]
    every = [name for name, _ in frames_for_test(root, all_splits=True)]
    assert {"7scenes/chess/seq-01", "7scenes/chess/seq-02"} <= set(every)


def test_without_split_files_every_sequence_is_test_data(tmp_path) -> None:
    for name in ("a", "b"):
        rgbd_scene(tmp_path / "rooms" / name, 3)
    assert [name for name, _ in frames_for_test(tmp_path / "rooms")] == ["rooms/a", "rooms/b"]


def test_every_broken_frame_of_sevenscenes_is_named(data_dir) -> None:
    found = one(data_dir / "bad_7scenes")
    assert found.notes == (
        "broken/seq-01 is named in both splits: it is training data",
        "broken/seq-02 is named in a split file and is not there",
    )
    assert [item.path.name for item in found.refused] == ["frame-000003.color.png"]
    reasons = {}
    for frame in found.scenes[0].frames:
        try:
            read_source_frame(frame)
        except ImageError as error:
            reasons[frame.number] = str(error)
    assert reasons == {
        1: "pose is missing: no frame-000001.pose.txt",
        2: "depth is missing: no frame-000002.depth.png",
        4: "pose has numbers that are not finite",
        5: "pose has numbers that are not finite",
        6: "pose has numbers that are not finite",
        7: "depth has no valid pixel",
        8: "depth has no valid pixel",
        9: "depth is 64x40 pixels, the image 64x48",
        10: "pose has 8 numbers, not 16",
        11: "pose has 0 numbers, not 16",
        13: "pose is not a rotation",
        14: "pose is not a rotation",
    }
    for frame in found.scenes[0].frames:
        assert read_source_frame(frame, images_only=True).depth is None


def test_rgbd_scenes_are_found_at_any_depth(tmp_path) -> None:
    rgbd_scene(tmp_path / "rooms" / "x" / "kitchen", 3)
    assert detect_layout(tmp_path / "rooms")[0].name == "rgbd"
    (scene,) = one(tmp_path / "rooms").scenes
    assert scene.scene_id == "x/kitchen"
    source = read_source_frame(scene.frames[2])
    assert source.depth is not None
    assert source.world_from_cam is not None
    assert source.unit == "m"
    np.testing.assert_allclose(source.depth, 1.002, rtol=1e-6)
    assert source.world_from_cam[0, 3] == pytest.approx(0.2)
    assert source.intrinsics is not None
    assert source.intrinsics[0].tolist() == [30, 0, 16]


def test_an_rgbd_scene_may_be_the_root(tmp_path) -> None:
    found = one(rgbd_scene(tmp_path / "room", 2))
    assert (found.name, found.scenes[0].scene_id) == ("room", "room")


def test_rgbd_says_what_is_missing(tmp_path) -> None:
    room = rgbd_scene(tmp_path / "room", 4)
    (room / "depth" / "000001.png").unlink()
    (room / "pose" / "000002.txt").unlink()
    (room / "rgb" / "000003.png").unlink()
    found = one(room)
    assert [(item.path.name, item.reason) for item in found.refused] == [
        ("000003", "no color picture of this frame")
    ]
    frames = found.scenes[0].frames
    with pytest.raises(ImageError, match="depth is missing"):
        read_source_frame(frames[1])
    with pytest.raises(ImageError, match="pose is missing"):
        read_source_frame(frames[2])
    (room / "intrinsics.txt").write_text("1 2 3")
    found = one(room)
    assert found.refused[0].reason == "K has 3 numbers, not 9"
    with pytest.raises(ImageError, match="no intrinsics"):
        read_source_frame(found.scenes[0].frames[0])
    assert read_source_frame(found.scenes[0].frames[0], images_only=True).intrinsics is None


def test_rgbd_may_have_split_files(tmp_path) -> None:
    for name in ("a", "b"):
        rgbd_scene(tmp_path / "rooms" / name, 2)
    (tmp_path / "rooms" / "TestSplit.txt").write_text("b\n")
    found = one(tmp_path / "rooms")
    assert [scene.split for scene in found.scenes] == [None, "val"]
    assert [name for name, _ in frames_for_test(tmp_path / "rooms")] == ["rooms/b"]


def pattern_file(folder: Path, text: str) -> Path:
    path = folder / "data_paths.yaml"
    path.write_text(text)
    return path


def test_the_originals_configuration_is_read(tmp_path) -> None:
    for frame in range(3):
        save_picture(tmp_path / "bmvs" / "5a3c" / "blended_images" / f"{frame:08d}.jpg", frame)
        save_picture(
            tmp_path / "bmvs" / "5a3c" / "blended_images" / f"{frame:08d}_masked.jpg", frame
        )
    for part in ("dense0", "dense1"):
        photos(tmp_path / "mega" / "0000" / part / "imgs", 3, name="{}.jpg")
    path = pattern_file(
        tmp_path,
        """
        prep: {resize_max: 640, out_dir: x}
        datasets:
          - {name: BlendedMVS, root: bmvs, pattern: "*/blended_images/*.jpg", sample_frac: 0.4}
          - {name: MegaDepth, root: mega, glob: "*/dense*/imgs/*.jpg", split: train}
        """,
    )
    assert detect_layout(path)[0].name == "pattern"
    blended, mega = (list_dataset(found) for found in scan(path))
    assert (blended.name, blended.dataset.sample_frac, blended.dataset.resize_max) == (
        "BlendedMVS",
        0.4,
        640,
    )
    assert [len(scene.frames) for scene in blended.scenes] == [3]  # without the masked copies
    assert [scene.scene_id for scene in blended.scenes] == ["5a3c"]
    assert [scene.scene_id for scene in mega.scenes] == ["0000/dense0", "0000/dense1"]
    assert [scene.split for scene in mega.scenes] == ["train", "train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: 3", "no list"),
        ("[]", "no list"),
        ("datasets: [{name: a, root: ., pattern: '*', sample_fraction: 1}]", "sample_fraction"),
        ("datasets: [{name: a, root: ., pattern: '*', sample_frac: 2}]", "sample_frac"),
        ("datasets: [7]", "not a mapping"),
        ("a: [", "cannot read"),
    ],
)
def test_other_configurations_are_refused(tmp_path, text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        scan(pattern_file(tmp_path, text))


def test_a_root_of_the_configuration_must_be_there(tmp_path) -> None:
    path = pattern_file(tmp_path, "datasets: [{name: a, root: nowhere, pattern: '*'}]")
    with pytest.raises(InputMissingError, match="nowhere"):
        scan(path)


def test_roots_of_the_wrong_kind_are_refused(tmp_path) -> None:
    picture = save_picture(tmp_path / "a.png", 0)
    with pytest.raises(RequestError, match="is a file"):
        detect_layout(picture)
    with pytest.raises(RequestError, match="does not take"):
        scan(tmp_path, "pattern")
    with pytest.raises(InputMissingError):
        scan(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="did you mean '7scenes'"):
        scan(tmp_path, "7scene")


def test_the_official_color_name_and_ours_may_mix(tmp_path) -> None:
    folder = sevenscenes_sequence(tmp_path / "seq-01", 2)
    save_picture(folder / "frame-000002.color.jpg", 2, (48, 64))
    assert len(one(tmp_path).scenes[0].frames) == 3


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch) -> None:
    photos(tmp_path / "open", 2)
    (tmp_path / "shut").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = one(tmp_path)
    assert [len(scene.frames) for scene in found.scenes] == [2]
    assert [item.reason for item in found.refused] == ["cannot be listed: permission denied"]


def test_intrinsics_of_no_camera_are_refused(tmp_path) -> None:
    room = rgbd_scene(tmp_path / "room", 2)
    (room / "intrinsics.txt").write_text("0 0 0\n0 0 0\n0 0 1\n")
    assert "not those of a camera" in one(room).refused[0].reason


def test_names_are_never_shared_by_two_frames(tmp_path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.png"):
        save_picture(tmp_path / name, 0)
    names = [frame.name for frame in one(tmp_path).scenes[0].frames]
    assert len(set(names)) == 3


def test_scenes_of_a_pattern_are_never_merged(tmp_path) -> None:
    photos(tmp_path / "d" / "a" / "images" / "b", 2)
    photos(tmp_path / "d" / "a" / "b" / "images", 2)
    path = pattern_file(
        tmp_path, f"[{{name: x, root: {tmp_path}/d, pattern: '**/images/**/*.png'}}]"
    )
    found = one(path)
    assert [scene.scene_id for scene in found.scenes] == ["a/b/images", "a/images/b"]


@pytest.mark.parametrize("layout", ["images", "rgbd"])
def test_a_link_that_leads_to_itself_is_left_out_and_named(tmp_path, layout) -> None:
    if layout == "images":
        photos(tmp_path, 3)
    else:
        rgbd_scene(tmp_path, 3)
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    found = one(tmp_path)
    assert found.layout.name == layout
    assert [len(scene.frames) for scene in found.scenes] == [3]
    assert {(item.path.name, item.reason) for item in found.refused} == {
        ("a.png", "a link that leads to itself"),
        ("b.png", "a link that leads to itself"),
    }


@pytest.mark.parametrize("layout", ["7scenes", "12scenes"])
def test_numbers_of_thousands_of_digits_are_no_fault(tmp_path, layout) -> None:
    digits = "9" * 6000
    if layout == "7scenes":
        chess(tmp_path / "chess")
        (tmp_path / "chess/TrainSplit.txt").write_text(f"sequence{digits}\n")
    else:
        room = tmp_path / "apt1/kitchen"
        save_picture(room / "data/frame-000000.color.jpg", 0)
        (room / "info.txt").write_text("m_colorWidth = 8\nm_colorHeight = 6\n")
        (room / "split.txt").write_text(f"sequence0 [frames={digits}] [start=0 ; end={digits}]\n")
    (dataset, *_) = scan(tmp_path, layout)
    assert list(dataset.list_scenes())
