"""Layout `pattern`: which image a depth map or a pose belongs to, by names and by times."""

import numpy as np
import pytest
from pattern_entry import CAMERA_INFO, depth_of, listed
from trees import save_depth, save_picture

from distill3r_core.errors import ConfigError


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
