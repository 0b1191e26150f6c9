"""Layout `pattern` with depth, poses and intrinsics beside the images."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_rooms import SIZE, write_room
from trees import save_picture

from distill3r_core.data.layouts import Frame, Note, Refused, Scene, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ConfigError, NothingUsableError
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

CAMERA_INFO = """
image_width: 8
image_height: 6
camera_name: color
camera_matrix: {rows: 3, cols: 3, data: [7.0, 0.0, 3.5, 0.0, 7.5, 2.5, 0.0, 0.0, 1.0]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [DISTORTION, 0.0, 0.0, 0.0, 0.0]}
"""


def save_depth(path: Path, value: int = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8), value, np.uint16)).save(path)


def listed(root: Path, entry: str) -> tuple[dict[str, Scene], list[str], list[str]]:
    """Scenes of an entry by their ids, its notes, and the reasons of what was refused."""
    (root / "data.yaml").write_text(f"datasets:\n  - {{name: mine, root: {root}, {entry}}}\n")
    (dataset,) = scan(root / "data.yaml", "auto")
    found = list(dataset.list_scenes())
    scenes = {item.scene_id: item for item in found if isinstance(item, Scene)}
    notes = [item.text for item in found if isinstance(item, Note)]
    return scenes, notes, [item.reason for item in found if isinstance(item, Refused)]


def depth_of(frames: tuple[Frame, ...]) -> dict[str, str | None]:
    return {frame.name: frame.depth and frame.depth.path.name for frame in frames}


def test_a_ros_recording_is_paired_by_time(tmp_path):
    for stamp in ("1700000000.100000", "1700000000.133000", "1700000000.300000"):
        save_picture(tmp_path / f"a/color/{stamp}.png", 0)
    for stamp in ("1700000000_105000000", "1700000000_141000000", "1700000000_400000000"):
        save_depth(tmp_path / f"a/depth/{stamp}.png")
    (tmp_path / "a/camera.yaml").write_text(CAMERA_INFO.replace("DISTORTION", "-0.25"))
    (tmp_path / "a/poses.txt").write_text(
        "# stamp tx ty tz qx qy qz qw\n"
        "1700000000.1 1 0 0 0 0 0 1\n1700000000.133 2 0 0 0 0 0 1\n1700000009 3 0 0 0 0 0 1\n"
    )
    scenes, notes, refused = listed(
        tmp_path,
        "pattern: '*/color/*.png', depth: '*/depth/*.png', poses: '*/poses.txt', "
        "intrinsics: '*/camera.yaml'",
    )
    assert refused == []
    first, second, third = scenes["a"].frames
    assert depth_of(scenes["a"].frames) == {
        "1700000000.100000": "1700000000_105000000.png",
        "1700000000.133000": "1700000000_141000000.png",
        "1700000000.300000": None,
    }
    assert [frame.pose[0, 3] for frame in (first, second)] == [1, 2]
    assert third.pose is None
    np.testing.assert_array_equal(first.rig.color, [[7, 0, 4], [0, 7.5, 3], [0, 0, 1]])
    assert first.rig.size == (6, 8)
    assert notes[:3] == [
        "a: 1 of 3 images has no depth map",
        "a: 1 of 3 depth maps belongs to no image",
        "a: 1 of 3 images has no pose",
    ]
    assert "distortion" in notes[3]


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


def test_names_are_paired_by_what_stands_for_the_wildcards(tmp_path):
    for number in (1, 2, 10):
        save_picture(tmp_path / f"s/{number}_rgb.png", number)
        np.save(tmp_path / f"s/{number}_depth.npy", np.full((6, 8), number, np.float32))
    scenes, notes, refused = listed(
        tmp_path,
        "pattern: 's/*_rgb.png', depth: 's/*_depth.npy', intrinsics: [7, 7, 4, 3]",
    )
    assert (notes, refused) == ([], [])
    (scene,) = scenes.values()
    assert [frame.name for frame in scene.frames] == ["1_rgb", "2_rgb", "10_rgb"]
    assert list(depth_of(scene.frames).values()) == ["1_depth.npy", "2_depth.npy", "10_depth.npy"]
    assert {(frame.depth.codec, frame.depth.scale) for frame in scene.frames} == {("array", 1.0)}
    np.testing.assert_array_equal(scene.frames[0].rig.color, [[7, 0, 4], [0, 7, 3], [0, 0, 1]])


def test_files_belong_to_the_scene_of_their_wildcards_or_to_all(tmp_path):
    for scene, value in (("x/one", 1), ("x/two", 2)):
        save_picture(tmp_path / scene / "color/a.png", value)
        save_depth(tmp_path / scene / "depth/a.png", value)
    (tmp_path / "K.txt").write_text("7 0 4\n0 7 3\n0 0 1\n")
    scenes, _, refused = listed(
        tmp_path,
        "pattern: 'x/*/color/*.png', depth: 'x/*/depth/*.png', intrinsics: K.txt, "
        "depth_scale: 5000",
    )
    assert refused == []
    assert set(scenes) == {"one", "two"}
    for name, scene in scenes.items():
        (frame,) = scene.frames
        assert frame.depth.path == tmp_path / "x" / name / "depth/a.png"
        assert (frame.depth.codec, frame.depth.scale) == ("png16", 5000.0)
        assert frame.rig.color[0, 0] == 7


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


def test_a_scene_without_its_files_is_kept_without(tmp_path):
    for scene in "ab":
        for number in range(2):
            save_picture(tmp_path / f"{scene}/color/{number}.png", number)
    save_depth(tmp_path / "a/depth/1.png")
    scenes, notes, refused = listed(tmp_path, "pattern: '*/color/*.png', depth: '*/depth/*.png'")
    assert refused == []
    assert depth_of(scenes["a"].frames) == {"0": None, "1": "1.png"}
    assert depth_of(scenes["b"].frames) == {"0": None, "1": None}
    assert notes == ["a: 1 of 2 images has no depth map", "b: 2 of 2 images have no depth map"]


@pytest.mark.parametrize(
    ("images", "depth", "pattern", "of_depth"),
    [
        # A folder at the root and one below; one that is called like the pattern's own.
        (["color", "other/color"], ["depth"], "**/color/*.png", "**/depth/*.png"),
        (["depth/color", "b/color"], ["depth/depth"], "*/color/*.png", "*/depth/*.png"),
    ],
)
def test_no_scene_gets_the_files_of_another(tmp_path, images, depth, pattern, of_depth):
    for folder in images:
        save_picture(tmp_path / folder / "0.png", 0)
    for folder in depth:
        save_depth(tmp_path / folder / "0.png")
    scenes, _, refused = listed(tmp_path, f"pattern: '{pattern}', depth: '{of_depth}'")
    assert refused == []
    found = {
        str(frame.image.parent.relative_to(tmp_path)): frame.depth
        for scene in scenes.values()
        for frame in scene.frames
    }
    assert len(found) == 2
    for folder, kept in found.items():
        assert (kept is not None) == (folder in ("color", "depth/color")), folder


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


def test_times_tell_more_than_a_name_that_happens_to_be_the_same(tmp_path):
    for stamp in (1700000000000, 1700000000033, 1700000000067):
        save_picture(tmp_path / f"color/{stamp}.png", stamp % 100)
    for stamp in (1700000000005, 1700000000033, 1700000000072):
        save_depth(tmp_path / f"depth/{stamp}.png")
    scenes, notes, _ = listed(tmp_path, "pattern: 'color/*.png', depth: 'depth/*.png'")
    assert notes == []
    (scene,) = scenes.values()
    assert [frame.depth.path.stem[-3:] for frame in scene.frames] == ["005", "033", "072"]


def test_frames_follow_their_times_whatever_decimals_these_have(tmp_path):
    for stamp in ("1700000000.12", "1700000000.153", "1700000000.18"):
        save_picture(tmp_path / f"color/{stamp}.png", 0)
    for stamp in ("1700000000.121", "1700000000.154", "1700000000.181"):
        save_depth(tmp_path / f"depth/{stamp}.png")
    scenes, notes, _ = listed(tmp_path, "pattern: 'color/*.png', depth: 'depth/*.png'")
    assert notes == []
    (scene,) = scenes.values()
    assert [frame.name.partition(".")[2] for frame in scene.frames] == ["12", "153", "18"]


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


def test_a_name_that_is_the_same_goes_before_a_time_that_is_near(tmp_path):
    for number in range(1, 31):
        save_picture(tmp_path / f"color/cam_{number}.0012.png", number)
        if number != 12:
            save_depth(tmp_path / f"depth/cam_{number}.0012.png")
    scenes, _, refused = listed(tmp_path, "pattern: 'color/*.png', depth: 'depth/*.png'")
    assert refused == []
    (scene,) = scenes.values()
    for frame in scene.frames:
        assert (frame.depth and frame.depth.path.stem) in (None, frame.name)
    assert sum(frame.depth is None for frame in scene.frames) == 1


@pytest.mark.parametrize("names", [("take_2.0", "take_2.5", "take_2.10"), ("v1.png.0", "v1.png.1")])
def test_images_alone_keep_their_natural_order(tmp_path, names):
    for name in names:
        save_picture(tmp_path / f"color/{name}.png", 0)
    scenes, _, _ = listed(tmp_path, "pattern: 'color/*.png'")
    (scene,) = scenes.values()
    assert [frame.name for frame in scene.frames] == list(names)


def test_depth_of_one_folder_is_not_that_of_two_scenes(tmp_path):
    for folder in "ab":
        save_picture(tmp_path / folder / "0.png", 0)
    save_depth(tmp_path / "depth/0.png")
    with pytest.raises(ConfigError, match="fits no scene: its folders stand for nothing"):
        listed(tmp_path, "pattern: '[ab]/*.png', depth: 'depth/*.png'")


def test_wildcards_that_stand_for_other_words_are_a_wrong_setting(tmp_path):
    save_picture(tmp_path / "scan01/color/0.png", 0)
    save_depth(tmp_path / "scan01/depth/0.png")
    pattern = "pattern: 'scan[0-9][0-9]/color/*.png'"
    with pytest.raises(ConfigError, match=r"fits no scene: its folders stand for 01, .* for 0/1"):
        listed(tmp_path, f"{pattern}, depth: 'scan*/depth/*.png'")
    save_depth(tmp_path / "scan02/depth/0.png")
    _, notes, _ = listed(tmp_path, f"{pattern}, depth: 'scan[0-9][0-9]/depth/*.png'")
    assert notes == ["1 file belongs to no scene: 'scan[0-9][0-9]/depth/*.png'"]


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


def test_names_without_wildcards_are_one_image_a_scene(tmp_path):
    for scene in "ab":
        save_picture(tmp_path / scene / "color.png", 0)
        save_depth(tmp_path / scene / "depth.png")
        (tmp_path / scene / "pose.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    scenes, notes, refused = listed(tmp_path, "pattern: '*/color.png', depth: '*/depth.png'")
    assert (notes, refused) == ([], [])
    assert {name: depth_of(scene.frames) for name, scene in scenes.items()} == {
        "a": {"color": "depth.png"}, "b": {"color": "depth.png"},
    }  # fmt: skip


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
