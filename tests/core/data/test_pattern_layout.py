"""Layout `pattern` with depth, poses and intrinsics beside the images: how they are read."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from pattern_entry import CAMERA_INFO, depth_of, listed
from posed_rooms import SIZE, write_room
from trees import save_depth, save_picture

from distill3r_core.data.layouts import scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ConfigError, NothingUsableError
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


@pytest.mark.parametrize(
    ("color", "camera", "focal"),
    [
        *(("image_rect", "camera.yaml", 6), ("image_raw", "camera.yaml", 7)),
        ("color", "image_rect.yaml", 6),
    ],
)
def test_rectified_images_have_the_k_of_the_projection(tmp_path, color, camera, focal):
    root = tmp_path / "rect"  # what is above the data is no topic
    save_picture(root / color / "0.png", 0)
    (root / camera).write_text(
        CAMERA_INFO.replace("DISTORTION", "-0.25")
        + "projection_matrix: {rows: 3, cols: 4, data: [6, 0, 3, 0, 0, 6, 2, 0, 0, 0, 1, 0]}\n"
    )
    scenes, notes, refused = listed(root, f"pattern: '{color}/*.png', intrinsics: {camera}")
    found = [frame.rig.color[0, 0] for scene in scenes.values() for frame in scene.frames]
    assert (found, refused, len(notes)) == ([focal], [], 1)


def test_a_room_is_the_one_that_its_own_layout_reads(tmp_path):
    write_room(tmp_path / "rooms/a")
    K = np.loadtxt(tmp_path / "rooms/a/intrinsics.txt")
    (tmp_path / "ros.yaml").write_text(
        f"height: {SIZE[0]}\nwidth: {SIZE[1]}\n"
        f"k: {(K - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]).ravel().tolist()}\nd: []\n"
    )
    (tmp_path / "data.yaml").write_text(
        f"- {{name: rooms, root: {tmp_path}, pattern: 'rooms/*/rgb/*.png', "
        "depth: 'rooms/*/depth/*.png', poses: 'rooms/*/pose/*.txt', intrinsics: ros.yaml}\n"
    )
    rows = {}
    for name, root in (("own", tmp_path / "rooms"), ("pattern", tmp_path / "data.yaml")):
        build_manifest(ManifestSettings((root,), tmp_path / name, val_scenes=0.0))
        rows[name] = read_manifest(tmp_path / name / "manifest.csv").rows
    assert len(rows["own"]) == 12
    for ours, theirs in zip(rows["pattern"], rows["own"], strict=True):
        np.testing.assert_allclose(ours.K, theirs.K, atol=1e-6)
        assert replace(ours, K=(), content="") == replace(theirs, K=(), content="")


@pytest.mark.parametrize(
    ("change", "entry", "says"),
    [
        ("rename", "depth: '*/depth/*.png'", "the names do not match and are not times"),
        ("", "intrinsics: '*/depth/*.png'", "2 files '*/depth/*.png' belong to it, not one"),
        ("", "intrinsics: [0, 7, 4, 3]", "not those of a camera"),
        ("", "intrinsics: '*/camera.yaml'", "camera.yaml cannot be read"),
        ("", "poses: '*/camera.yaml'", "camera.yaml, line 1: could not convert"),
        ("twice", "depth: '*/depth/*.*'", "two of the files beside its images have the same name"),
        ("twins", "depth: '*/depth/*.png'", "two of its images have the same name"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, change, entry, says):
    for number in range(2):
        save_picture(tmp_path / f"a/color/{number}.png", number)
        save_depth(tmp_path / f"a/depth/{number}.png")
    (tmp_path / "a/camera.yaml").write_text("camera_matrix: {data: [1, 2]}\n")
    if change == "twice":
        shutil.copy(tmp_path / "a/depth/0.png", tmp_path / "a/depth/0.tif")
    if change == "twins":
        save_picture(tmp_path / "a/color/0.jpg", 5)
    if change == "rename":
        shutil.move(tmp_path / "a/depth", tmp_path / "a/old")
        save_depth(tmp_path / "a/depth/left.png")
        save_depth(tmp_path / "a/depth/right.png")
    scenes, _, refused = listed(tmp_path, f"pattern: '*/color/*.*', {entry}")
    assert scenes == {}
    assert len(refused) == 1
    assert says in refused[0]


@pytest.mark.parametrize("key", ["depth", "poses", "intrinsics"])
def test_a_pattern_that_names_no_file_at_all_is_a_wrong_setting(tmp_path, key):
    save_picture(tmp_path / "a/color/0.png", 0)
    with pytest.raises(ConfigError, match=f"{key}: .* names no file"):
        listed(tmp_path, f"pattern: '*/color/*.png', {key}: '*/nothing/*.png'")


def test_hidden_files_and_results_are_none_of_the_data(tmp_path):
    save_picture(tmp_path / "color/0.png", 0)
    save_depth(tmp_path / "depth/0.png")
    (tmp_path / "depth/._0.png").write_bytes(b"of another system")
    save_depth(tmp_path / "data/depth/kitchen/0.png")
    (tmp_path / "data.yaml").write_text(
        f"- {{name: mine, root: {tmp_path}, pattern: 'color/*.png', depth: '**/*.png'}}\n"
        f"- {{name: own, root: {tmp_path}, pattern: 'color/*.png', depth: 'depth/*.png'}}\n"
    )
    _, dataset = scan(tmp_path / "data.yaml", "auto", skip=tmp_path / "data")
    (scene,) = dataset.list_scenes()
    assert depth_of(scene.frames) == {"0": "0.png"}


def test_counters_are_no_times_of_a_trajectory(tmp_path):
    for number in range(5):
        save_picture(tmp_path / f"color/{number:06d}.png", number)
    # The trajectory has the seconds 0, 1, ... too.
    by_time = [f"{number / 30} {number} 0 0 0 0 0 1" for number in range(150)]
    (tmp_path / "poses.txt").write_text("\n".join(by_time))
    _, notes, _ = listed(tmp_path, "pattern: 'color/*.png', poses: poses.txt")
    assert notes == ["mine: 5 of 5 images have no pose"]
    by_number = [f"{number} {number} 0 0 0 0 0 1" for number in range(4)]
    (tmp_path / "poses.txt").write_text("\n".join(by_number))
    scenes, notes, _ = listed(tmp_path, "pattern: 'color/*.png', poses: poses.txt")
    (scene,) = scenes.values()
    assert [frame.pose[0, 3] for frame in scene.frames if frame.pose is not None] == [0, 1, 2, 3]
    assert notes == ["mine: 1 of 5 images has no pose"]


def test_whole_numbers_in_arrays_are_millimeters(tmp_path):
    save_picture(tmp_path / "0_rgb.png", 0)
    np.save(tmp_path / "0_depth.npy", np.full((6, 8), 1500, np.uint16))
    scenes, _, _ = listed(tmp_path, "pattern: '*_rgb.png', depth: '*_depth.npy'")
    ((frame,),) = (scene.frames for scene in scenes.values())
    assert frame.depth.scale == 1000
    with pytest.raises(ConfigError, match="depth_scale"):
        listed(tmp_path, "pattern: '*_rgb.png', depth: '*_depth.npy', depth_scale: .inf")
    with pytest.raises(ConfigError, match="depth_scale is given, and no depth"):
        listed(tmp_path, "pattern: '*_rgb.png', depth_scale: 1000")


def test_images_of_a_scene_with_damaged_files_are_taken_alone(tmp_path):
    save_picture(tmp_path / "a/color/0.png", 0)
    save_picture(tmp_path / "a/color/1.png", 1)
    save_depth(tmp_path / "a/depth/left.png")
    (tmp_path / "data.yaml").write_text(
        f"- {{name: mine, root: {tmp_path}, pattern: '*/color/*.png', depth: '*/depth/*.png'}}\n"
    )
    (dataset,) = scan(tmp_path / "data.yaml", "auto")
    listing = list_dataset(dataset, images_only=True)
    assert [len(scene.frames) for scene in listing.scenes] == [2]


def test_a_trajectory_of_two_poses_is_no_matrix(tmp_path):
    for number in range(2):
        save_picture(tmp_path / f"color/{number}.png", number)
    (tmp_path / "poses.txt").write_text("0 5 0 0 0 0 0 1\n1 6 0 0 0 0 0 1\n")
    scenes, notes, refused = listed(tmp_path, "pattern: 'color/*.png', poses: poses.txt")
    assert (notes, refused) == ([], [])
    (scene,) = scenes.values()
    assert [frame.pose[0, 3] for frame in scene.frames] == [5, 6]


def test_a_matrix_is_no_trajectory(tmp_path):
    save_picture(tmp_path / "a/color.png", 0)
    (tmp_path / "a/pose.txt").write_text("1 0 0 5\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    scenes, notes, refused = listed(tmp_path, "pattern: '*/color.png', poses: '*/pose.txt'")
    assert (notes, refused) == ([], [])
    assert scenes["a"].frames[0].pose == tmp_path / "a/pose.txt"


def test_depth_in_colors_is_no_depth(tmp_path):
    for number in range(2):
        save_picture(tmp_path / f"color/{number}.png", number)
        save_picture(tmp_path / f"depth/{number}.png", number)
    (tmp_path / "data.yaml").write_text(
        f"- {{name: mine, root: {tmp_path}, pattern: 'color/*.png', depth: 'depth/*.png'}}\n"
    )
    with pytest.raises(NothingUsableError, match="depth is not 16-bit gray"):
        build_manifest(ManifestSettings((tmp_path / "data.yaml",), tmp_path / "out"))
    rejected = (tmp_path / "out/rejected.csv").read_text()
    assert rejected.count("depth is not 16-bit gray") == 2


@pytest.mark.parametrize(
    "pattern", ["/data/*.png", "", "../*.png", "a/../b/*.png", "**a/*.png", "a/**", "[z-a].png"]
)
@pytest.mark.parametrize("key", ["pattern", "depth", "poses", "intrinsics"])
def test_a_pattern_that_is_none_is_a_wrong_setting(tmp_path, key, pattern):
    other = "" if key == "pattern" else "pattern: '*.png', "
    with pytest.raises(ConfigError, match=key):
        listed(tmp_path, f"{other}{key}: '{pattern}'")
