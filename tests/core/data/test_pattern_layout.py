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
from distill3r_core.data.layouts.pattern_files import stamp_of
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
        "a: 1 of 3 images have no depth map",
        "a: 1 of 3 depth maps belong to no image",
        "a: 1 of 3 images have no pose",
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
        ("", "depth: '*/nothing/*.png'", "no file '*/nothing/*.png' belongs to it"),
        ("rename", "depth: '*/depth/*.png'", "not all are times"),
        ("", "intrinsics: '*/depth/*.png'", "2 files '*/depth/*.png' belong to it, not one"),
        ("", "intrinsics: [0, 7, 4, 3]", "not those of a camera"),
        ("", "intrinsics: '*/camera.yaml'", "camera.yaml cannot be read"),
        ("", "poses: '*/camera.yaml'", "camera.yaml, line 1: could not convert"),
        ("twice", "depth: '*/depth/*.*'", "two files '*/depth/*.*' are of one name"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, change, entry, says):
    for number in range(2):
        save_picture(tmp_path / f"a/color/{number}.png", number)
        save_depth(tmp_path / f"a/depth/{number}.png")
    (tmp_path / "a/camera.yaml").write_text("camera_matrix: {data: [1, 2]}\n")
    if change == "twice":
        shutil.copy(tmp_path / "a/depth/0.png", tmp_path / "a/depth/0.tif")
    if change == "rename":
        shutil.move(tmp_path / "a/depth", tmp_path / "a/old")
        save_depth(tmp_path / "a/depth/left.png")
        save_depth(tmp_path / "a/depth/right.png")
    scenes, _, refused = listed(tmp_path, f"pattern: '*/color/*.png', {entry}")
    assert scenes == {}
    assert len(refused) == 1
    assert says in refused[0]


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


@pytest.mark.parametrize("pattern", ["/data/*.png", "", "../*.png", "a/../b/*.png", "**a/*.png"])
@pytest.mark.parametrize("key", ["pattern", "depth", "poses", "intrinsics"])
def test_a_pattern_that_is_none_is_a_wrong_setting(tmp_path, key, pattern):
    other = "" if key == "pattern" else "pattern: '*.png', "
    with pytest.raises(ConfigError, match=key):
        listed(tmp_path, f"{other}{key}: '{pattern}'")


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("frame_1305031102.175304", 1305031102.175304),
        ("1700000000123456789", 1700000000.123456789),
        ("1700000000123456", 1700000000.123456),
        ("1700000000123", 1700000000.123),
        ("rgb_1700000000_5000000", 1700000000.005),
        ("000012", 12.0),
        ("left", None),
    ],
)
def test_times_in_names(name, seconds):
    assert stamp_of(name) == (seconds if seconds is None else pytest.approx(seconds, abs=1e-6))
