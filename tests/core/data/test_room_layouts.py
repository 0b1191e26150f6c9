"""The papers' data sets of rooms, as small trees with the traps of the real ones.

Expected rows are written by hand.
"""

import json

import numpy as np
import pytest
from layout_files import QUARTER, listed, made, matrix_text, names, write
from PIL import Image
from published_trees import write_12scenes
from trees import rejected, save_depth, save_picture

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts.records import Note, Refused
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.windows import stride_of
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


@pytest.mark.parametrize("field", ["depthShift", "calibrationDepthExtrinsic"])
def test_12scenes_read_of_info_only_what_they_use(tmp_path, field):
    room = write_12scenes(tmp_path) / "apt1" / "kitchen"
    text = (room / "info.txt").read_text().replace("m_depthShift = 1000\n", "")
    write(room / "info.txt", f"{text}m_{field} = -1 none\n")
    scenes, rest = listed(tmp_path, "12scenes")
    assert [len(scene.frames) for scene in scenes.values()] == [3, 3]
    assert not [item for item in rest if isinstance(item, Refused)]
    write(room / "info.txt", text.replace("60 0 31.5", "60 0"))
    scenes, rest = listed(tmp_path, "12scenes")
    assert not scenes
    assert ["info.txt is damaged" in one.reason for one in rest if isinstance(one, Refused)] == [
        True
    ]


def test_a_frame_of_12scenes_without_tracking_is_an_image(tmp_path):
    write_12scenes(tmp_path / "tree")
    (tmp_path / "tree" / "apt1" / "kitchen" / "data" / "frame-000003.pose.txt").unlink()
    settings = ManifestSettings((tmp_path / "tree",), tmp_path / "out", views=2)
    build_manifest(settings, trust=True)
    assert rejected(tmp_path / "out") == {
        "frame-000003.color.jpg": "pose is missing: no frame-000003.pose.txt",
        "frame-000004.color.jpg": "it has no pose, as others of its scene have",
        "kitchen": "it has one frame; a sample needs 2 frames",
    }
    settings = ManifestSettings((tmp_path / "tree",), tmp_path / "all", views=2, images_only=True)
    build_manifest(settings)
    assert rejected(tmp_path / "all") == {}
    assert len(read_manifest(tmp_path / "all" / "manifest.csv").rows) == 6


def test_12scenes_are_cut_by_their_split_file(tmp_path):
    room = tmp_path / "apt1" / "kitchen"
    for frame in range(6):
        stem = room / "data" / f"frame-{frame:06d}"
        save_picture(stem.with_name(f"{stem.name}.color.jpg"), frame)
        save_depth(stem.with_name(f"{stem.name}.depth.png"), 2000, size=(12, 16))
        pose = np.eye(4) if frame != 4 else np.full((4, 4), -np.inf)
        write(stem.with_name(f"{stem.name}.pose.txt"), matrix_text(pose).replace("-inf", "-1.#INF"))
    write(
        room / "info.txt",
        "m_versionNumber = 4\nm_colorWidth = 64\nm_colorHeight = 48\n"
        "m_calibrationDepthIntrinsic = 9 0 0 0 0 9 0 0 0 0 1 0 0 0 0 1\n"
        "m_calibrationColorIntrinsic = 60 0 31.5 0 0 62 23.5 0 0 0 1 0 0 0 0 1\n",
    )
    write(
        room / "split.txt",
        "sequence0 [frames=3] [start=0 ; end=2]\nsequence1 [frames=3] [start=3 ; end=5]\n",
    )
    scenes, rest = listed(tmp_path, "12scenes")
    assert {name: names(scene) for name, scene in scenes.items()} == {
        "apt1/kitchen/sequence0": ["frame-000000", "frame-000001", "frame-000002"],
        "apt1/kitchen/sequence1": ["frame-000003", "frame-000004", "frame-000005"],
    }
    first, second = scenes.values()
    assert (first.split, first.is_test, second.split, second.is_test) == (
        "val",
        True,
        "train",
        False,
    )
    assert [frame.pose is None for frame in second.frames] == [False, True, False]
    assert [item.text for item in rest if isinstance(item, Note)] == [
        "apt1/kitchen: 1 of 6 frames has no pose: tracking was lost"
    ]
    frame = read_source_frame(first.frames[0])
    assert frame.intrinsics is not None and frame.depth is not None
    np.testing.assert_allclose(frame.intrinsics, [[30, 0, 16], [0, 31, 12], [0, 0, 1]])
    assert frame.depth.shape == (24, 32)
    assert np.unique(frame.depth).tolist() == [2]


def test_habitat_batches_are_scenes(tmp_path):
    folder = tmp_path / "hm3d" / "val" / "00800-X"
    for view in (1, 2, 4, 5):  # the third is missing
        save_picture(folder / f"00000000_{view}.jpeg", view)
        camera = {
            "camera_intrinsics": [[30, 0, 16], [0, 30, 12], [0, 0, 1]],
            "R_cam2world": QUARTER[:3, :3].tolist(),
            "t_cam2world": [view, 0, 0],
        }
        write(folder / f"00000000_{view}_camera_params.json", json.dumps(camera))
    scenes, _ = listed(tmp_path, "habitat")
    assert {name: names(scene) for name, scene in scenes.items()} == {
        "hm3d/val/00800-X/00000000": [f"00000000_{view}" for view in (1, 2, 4, 5)]
    }
    frame = read_source_frame(next(iter(scenes.values())).frames[2])
    assert frame.world_from_cam is not None
    assert frame.world_from_cam[:3, 3].tolist() == [4, 0, 0]


@pytest.mark.parametrize("name", ["camera_intrinsics", "R_cam2world", "t_cam2world"])
def test_a_camera_of_habitat_with_numbers_too_large_for_a_float_is_refused(tmp_path, name):
    camera = {
        "camera_intrinsics": [[30, 0, 16], [0, 30, 12], [0, 0, 1]],
        "R_cam2world": QUARTER[:3, :3].tolist(),
        "t_cam2world": [0, 0, 0],
    }
    camera[name] = [10**400, *camera[name][1:]]
    save_picture(tmp_path / "00000000_1.jpeg", 1)
    write(tmp_path / "00000000_1_camera_params.json", json.dumps(camera))
    scenes, rest = listed(tmp_path, "habitat")
    assert not scenes
    (refused,) = [item for item in rest if isinstance(item, Refused)]
    assert refused.path.name == "00000000_1.jpeg"
    assert "00000000_1_camera_params.json is damaged" in refused.reason


def test_matterport_walks_between_positions(tmp_path):
    house = tmp_path / "1pXnuDYAj8r"
    # Four positions on a line, named out of its order.
    places = {"d": 0.0, "a": 1.0, "c": 2.0, "b": 3.0}
    for index, (uuid, x) in enumerate(places.items()):
        for camera in range(3):
            for yaw in range(6):
                save_picture(
                    house / "matterport_color_images" / f"{uuid}_i{camera}_{yaw}.jpg",
                    index * 18 + camera * 6 + yaw,
                )
                angle = np.radians(60 * (yaw + index))  # position d's yaw 0 is a's yaw 5
                pose = np.eye(4)
                pose[:3, :3] = [
                    [np.cos(angle), 0, np.sin(angle)],
                    [0, 1, 0],
                    [-np.sin(angle), 0, np.cos(angle)],
                ]
                pose[0, 3] = x
                write(
                    house / "matterport_camera_poses" / f"{uuid}_pose_{camera}_{yaw}.txt",
                    matrix_text(pose),
                )
            write(
                house / "matterport_camera_intrinsics" / f"{uuid}_intrinsics_{camera}.txt",
                "32 24 20 20 15.5 11.5 0 0 0 0 0\n",
            )
    scenes, _ = listed(tmp_path, "matterport")
    assert len(scenes) == 18
    for scene in scenes.values():
        positions = [name.split("_i")[0] for name in names(scene)]
        assert positions == ["a", "c", "b", "d"]  # from the first by name to the nearest left
    walk = names(scenes["1pXnuDYAj8r/camera0-0"])
    # c is turned by 60 degrees more than a, b by 120, d by 60 less.
    assert walk == ["a_i0_0", "c_i0_5", "b_i0_4", "d_i0_1"]
    every = [name for scene in scenes.values() for name in names(scene)]
    assert len(every) == len(set(every)) == 72


def test_scannetpp_prefers_images_without_distortion(tmp_path):
    first, second = tmp_path / "data" / "0a0a0a0a0a", tmp_path / "data" / "0b0b0b0b0b"
    stems = ["DSC09998", "DSC09999", "DSC10000"]
    for index, stem in enumerate(stems):
        save_picture(first / "dslr" / "resized_images" / f"{stem}.JPG", index)
        save_picture(second / "dslr" / "resized_images" / f"{stem}.JPG", index)
        save_picture(second / "dslr" / "resized_undistorted_images" / f"{stem}.JPG", index)
    for folder in (first, second):
        write(
            folder / "dslr" / "colmap" / "cameras.txt",
            "1 OPENCV_FISHEYE 32 24 9 9 16 12 0 0 0 0\n",
        )
        write(
            folder / "dslr" / "colmap" / "images.txt",
            "".join(f"{n} 1 0 0 0 {n} 0 0 1 {stem}.JPG\n\n" for n, stem in enumerate(stems)),
        )
    frames = [{"file_path": "DSC09999.JPG", "is_bad": True}]
    write(
        second / "dslr" / "nerfstudio" / "transforms.json",
        json.dumps({"frames": frames, "test_frames": []}),
    )
    write(
        second / "dslr" / "nerfstudio" / "transforms_undistorted.json",
        json.dumps({"fl_x": 20, "fl_y": 21, "cx": 16, "cy": 12, "w": 32, "h": 24, "frames": []}),
    )
    write(tmp_path / "splits" / "nvs_sem_val.txt", "0b0b0b0b0b\n")
    scenes, rest = listed(tmp_path, "scannetpp")
    one, two = scenes["data/0a0a0a0a0a/dslr"], scenes["data/0b0b0b0b0b/dslr"]
    assert names(one) == stems
    assert names(two) == [stems[0], stems[2]]
    assert {frame.camera for frame in one.frames} == {"fisheye"}
    assert {frame.camera for frame in two.frames} == {"pinhole"}
    assert "resized_undistorted_images" in str(two.frames[0].image)
    assert [("fisheye" in item.text) for item in rest if isinstance(item, Note)] == [True]
    assert (one.split, two.split) == (None, "val")
    frame = read_source_frame(two.frames[1])
    assert frame.world_from_cam is not None
    assert frame.world_from_cam[0, 3] == -2
    assert read_source_frame(one.frames[0]).intrinsics is None


def test_a_phones_images_of_scannetpp_are_a_sequence_of_their_own(tmp_path):
    phone = tmp_path / "data" / "0a0a0a0a0a" / "iphone"
    lines = []
    for index, number in enumerate((0, 10, 100)):
        name = f"frame_{number:06d}"
        save_picture(phone / "rgb" / f"{name}.jpg", index, (48, 64))
        save_depth(phone / "depth" / f"{name}.png", 1500 + index, size=(12, 16))
        Image.new("L", (64, 48), 255).save(made(phone / "rgb_masks" / f"{name}.png"))
        lines.append(f"{index + 1} 1 0 0 0 {-index} 0 0 7 video/{name}.jpg\n\n")
    write(phone / "colmap" / "cameras.txt", "7 OPENCV 128 96 80 82 64 48 0 0 0 0\n")
    write(phone / "colmap" / "images.txt", "".join(lines))
    scenes, _ = listed(tmp_path, "scannetpp")
    (scene,) = scenes.values()
    assert scene.scene_id == "data/0a0a0a0a0a/iphone"
    assert names(scene) == ["frame_000000", "frame_000010", "frame_000100"]
    assert scene.policy is not None
    assert stride_of(1000, scene.policy, 20) == 5 and stride_of(9000, scene.policy, 20) == 10
    frame = read_source_frame(scene.frames[2])
    assert frame.world_from_cam is not None and frame.depth is not None
    assert frame.world_from_cam[0, 3] == 2
    assert np.unique(frame.depth).tolist() == [np.float32(1.502)] and frame.unit == "m"
    # For images of half the size of those of the model.
    np.testing.assert_allclose(frame.intrinsics, [[40, 0, 32], [0, 41, 24], [0, 0, 1]])


def test_a_phones_rendered_depth_comes_before_its_own(tmp_path):
    phone = tmp_path / "data" / "0a0a0a0a0a" / "iphone"
    lines = []
    for index in range(2):
        name = f"frame_{index:06d}"
        save_picture(phone / "rgb" / f"{name}.jpg", index, (48, 64))
        save_depth(phone / "depth" / f"{name}.png", 1500, size=(12, 16))
        lines.append(f"{index + 1} 1 0 0 0 0 0 0 7 iphone/{name}.jpg\n\n")
    save_depth(phone / "render_depth" / "frame_000001.png", 2500, size=(48, 64))
    write(phone / "colmap" / "cameras.txt", "7 OPENCV 128 96 80 82 64 48 0.1 0 0 0\n")
    write(phone / "colmap" / "images.txt", "".join(lines))
    scenes, (note,) = listed(tmp_path, "scannetpp")
    (scene,) = scenes.values()
    depths = [read_source_frame(frame).depth for frame in scene.frames]
    assert [np.unique(depth).tolist() for depth in depths] == [[1.5], [2.5]]
    assert "iphone: its images are distorted" in note.text


def test_a_phones_files_that_are_not_extracted_are_named(tmp_path):
    place = tmp_path / "data" / "0a0a0a0a0a"
    for index in range(2):
        save_picture(place / "dslr" / "undistorted_images" / f"DSC{index:05d}.JPG", index)
    made(place / "iphone" / "rgb.mkv").write_bytes(b"x")
    write(place / "iphone" / "colmap" / "cameras.txt", "7 OPENCV 128 96 80 82 64 48 0.1 0 0 0\n")
    scenes, (note,) = listed(tmp_path, "scannetpp")
    assert list(scenes) == ["data/0a0a0a0a0a/dslr"]
    assert "iphone: rgb.mkv left out" in note.text and "prepare_iphone_data" in note.text
    made(place / "iphone" / "depth.bin").write_bytes(b"x")
    _, (note,) = listed(tmp_path, "scannetpp")
    assert "rgb.mkv and depth.bin left out" in note.text
