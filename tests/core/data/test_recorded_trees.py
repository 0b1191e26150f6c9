"""`manifest` on the fixture trees of DATASETS.md 14i: its rows, as they are there by hand."""

import json

import numpy as np
import pytest
from manifest_table import build, reasons, table
from recorded_trees import (
    CYCLE,
    CYCLE_FROM_GL,
    write_colmap,
    write_nerfstudio,
    write_open3d,
    write_polycam,
    write_record3d,
    write_scannet,
    write_strayscanner,
    write_tum,
)

from distill3r_core.data.layouts import detect_layout, frames_for_test
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import RequestError


@pytest.fixture
def rows_of(tmp_path):
    """The table of a tree, once its layout was recognized, what was left out, and the notes."""

    def make(root, layout, leave=(), **settings):
        assert detect_layout(root)[0].name == layout
        out = tmp_path / "out"
        notes = build(root, out, **settings)
        return table(out, leave=leave), reasons(out), " ".join(notes)

    return make


def poses_of(out, scene):
    """world_from_cam of a scene's samples."""
    return {
        row.sample_id: np.array(row.pose).reshape(4, 4)
        for row in read_manifest(out / "manifest.csv").rows
        if row.scene_id == scene and row.pose
    }


def test_tum(tmp_path, rows_of):
    for name in ("rgbd_dataset_freiburg1_x", "rgbd_dataset_freiburg3_x", "mine"):
        write_tum(tmp_path / "tum" / name)
    rows, _, notes = rows_of(tmp_path / "tum", "tum", leave=("030003", "030004"))
    samples = "029999:0 030000:1 030001:2 030002:3"  # 30 a second
    assert rows == [
        f"mine | train pinhole number m | depth=1.5 pose | 32x24 26.25 26.25 16 12 | 0 | {samples}",
        "rgbd_dataset_freiburg1_x | train pinhole number m | depth=1.5 pose | "
        f"32x24 25.865 25.823 15.957 12.791 | 0 | {samples}",
        "rgbd_dataset_freiburg3_x | train pinhole number m | depth=1.5 pose | "
        f"32x24 26.77 26.96 16.03 12.405 | 0 | {samples}",
    ]
    assert "mine: no intrinsics.txt, and its name is not one of TUM's" in notes
    assert "rgbd_dataset_freiburg1_x: freiburg1 images are distorted" in notes
    found = poses_of(tmp_path / "out", "mine")
    assert [round(pose[0, 3], 6) for pose in found.values()][:4] == [0, 1, 2, 3]


def test_scannet(tmp_path, rows_of):
    for scan in ("scene0000_00", "scene0000_01"):
        write_scannet(tmp_path / "scans" / scan)
    rows, _, _ = rows_of(tmp_path / "scans", "scannet", leave=("000007",))  # without a pose
    assert rows == [
        f"{scan} | train pinhole number m | depth=1.5 pose | 32x24 28 27 16 12 | 0 | "
        "000000:0 000001:1 000002:2 000003:3 000004:4 000005:5 000006:6 000008:8 000009:9 "
        "000010:10 000011:11"
        for scan in ("scene0000_00", "scene0000_01")
    ]


def test_colmap(tmp_path, rows_of):
    rows, left_out, notes = rows_of(write_colmap(tmp_path / "walk"), "colmap")
    assert rows == [
        "walk | train pinhole name none | pose | 32x24 40 40 16 12 | 0 | 000000:0",
        "walk | train pinhole name none | - | 32x24 | 0 | 000001:2",
        "walk | train fisheye name none | pose | 32x24 | 0 | 000002:1",
    ]
    assert left_out == {}
    assert "sparse/1 (1 image) left out" in notes
    assert "1 of 3 images is not in the model: no pose" in notes


def test_nerfstudio(tmp_path, rows_of):
    rows, left_out, _ = rows_of(write_nerfstudio(tmp_path / "ns"), "nerfstudio")
    # f of an angle of 90 degrees is half the width.
    assert rows == [
        "a | train pinhole number none | depth=1.5 pose | 32x24 30 30 15 11 | 0 | "
        "000000:2 000001:9 000002:10",
        "b | train pinhole number none | pose | 32x24 16 16 16 12 | 0 | "
        "000000:2 000001:9 000002:10",
    ]
    unused = "in the folder of a scene, but of no frame of this layout"
    assert left_out == {f"f_{number}.png": unused for number in (2, 9, 10)}
    for scene in ("a", "b"):
        found = poses_of(tmp_path / "out", scene)
        assert [pose[0, 3] for pose in found.values()] == [2, 9, 10]
        for pose in found.values():
            np.testing.assert_allclose(pose[:3, :3], CYCLE_FROM_GL, atol=1e-12)


def test_polycam(tmp_path, rows_of):
    write_polycam(tmp_path / "p" / "cap", corrected=True)
    write_polycam(tmp_path / "p" / "plain", corrected=False)
    rows, left_out, _ = rows_of(tmp_path / "p", "polycam")
    assert rows == [
        "cap | train pinhole number m | depth=1.5 pose | 32x24 32 31 16 12 | 0 | "
        "000000:0 000001:1 000002:2 000003:3",
        "plain | train pinhole number m | depth=1.5 pose | 32x24 30 31 16 12 | 0 | "
        "000000:0 000001:2 000002:3",
    ]
    assert "100.jpg" in left_out
    for scene, stamps in (("cap", [99, 100, 1000, 1001]), ("plain", [99, 1000, 1001])):
        found = poses_of(tmp_path / "out", scene)
        assert [pose[0, 3] for pose in found.values()] == stamps
        for pose in found.values():
            np.testing.assert_allclose(pose[:3, :3], CYCLE_FROM_GL, atol=1e-12)


def test_strayscanner(tmp_path, rows_of):
    write_strayscanner(tmp_path / "scans" / "0123456789")
    # The twelfth frame has no depth map; the thirteenth pose has no frame.
    rows, _, _ = rows_of(tmp_path / "scans", "strayscanner", leave=("000011",), video_fps=60.0)
    assert rows == [
        "0123456789 | train pinhole number m | depth=1.5 pose | 64x48 50 52 32 24 | 0 | "
        "000000:0 000001:5 000002:10 000003:15 000004:20 000005:25 000006:30 000007:35 "
        "000008:40 000009:45 000010:50"
    ]
    found = poses_of(tmp_path / "out", "0123456789")
    assert "000012" not in found
    assert [pose[0, 3] for pose in found.values()][:11] == list(range(11))
    for pose in found.values():
        np.testing.assert_allclose(pose[:3, :3], CYCLE, atol=1e-12)


def test_record3d(tmp_path, rows_of):
    rows, _, _ = rows_of(write_record3d(tmp_path / "phone"), "record3d")
    assert rows == [
        "b | train pinhole number m | pose | 64x48 60 62 32 24 | 0 | "
        "000000:0 000001:1 000002:2 000003:3 000004:4 000005:5 000006:6 000007:7 000008:8 "
        "000009:9 000010:10",
        "phone/a | train pinhole number m | depth=1.5 pose | 64x48 60 62 32 24 | 0 | "
        "000000:0 000001:1 000002:2 000003:3",
    ]
    for scene, count in (("b", 11), ("phone/a", 4)):
        found = poses_of(tmp_path / "out", scene)
        assert [pose[:3, 3].tolist() for pose in found.values()] == [
            [n, 2, 3] for n in range(count)
        ]
        for pose in found.values():
            np.testing.assert_allclose(pose[:3, :3], CYCLE_FROM_GL, atol=1e-12)


def test_open3d(tmp_path, rows_of):
    rows, left_out, _ = rows_of(write_open3d(tmp_path / "rec"), "open3d")
    assert rows == [
        "a | train pinhole number m | depth=1.5 | 32x24 30 31 16 12 | 0 | "
        "000000:0 000001:1 000002:2"
    ]
    assert list(left_out) == ["depth"]  # of the second folder, colored for the eye
    assert "realsense_recorder.py" in left_out["depth"] and "pattern" in left_out["depth"]


NO_DEPTH = "it has no depth map, as others of its scene have"


def test_frames_without_depth_or_pose_are_refused_by_name(tmp_path, rows_of):
    write_tum(tmp_path / "tum" / "mine")
    rows, left_out, _ = rows_of(tmp_path / "tum", "tum")
    assert [row.rpartition(" | ")[2] for row in rows] == ["029999:0 030000:1 030001:2 030002:3"]
    assert left_out["1000.110000.png"] == NO_DEPTH
    assert left_out["1000.150000.png"] == NO_DEPTH  # the nearest is 0.021 s away
    assert left_out["1000.200000.png"] == NO_DEPTH  # nor is the image there


def test_a_frame_of_scannet_without_tracking_is_refused_by_name(tmp_path, rows_of):
    write_scannet(tmp_path / "scans" / "scene0000_00")
    _, left_out, _ = rows_of(tmp_path / "scans", "scannet")
    assert left_out == {"7.jpg": "it has no pose, as others of its scene have"}


def test_a_frame_of_stray_scanner_without_depth_is_refused_by_name(tmp_path, rows_of):
    write_strayscanner(tmp_path / "scans" / "0123456789")
    rows, left_out, _ = rows_of(tmp_path / "scans", "strayscanner", video_fps=60.0)
    assert not any("000011" in row for row in rows)
    assert list(left_out.values()) == [NO_DEPTH]


def test_frames_in_a_video_are_not_scored_without_a_word(tmp_path):
    write_strayscanner(tmp_path / "scans" / "0123456789")
    with pytest.raises(RequestError, match=r"rgb\.mp4: its frames are in a video") as failure:
        list(frames_for_test(tmp_path / "scans"))
    assert "distill3r manifest" in (failure.value.hint or "")


def test_lists_of_nerfstudio_are_its_split(tmp_path, rows_of):
    path = write_nerfstudio(tmp_path / "ns") / "b" / "transforms.json"
    content = json.loads(path.read_text())
    content |= {"train_filenames": ["./train/r_2", "train/r_9.png"], "val_filenames": []}
    path.write_text(json.dumps({**content, "test_filenames": []}))
    _, left_out, _ = rows_of(tmp_path / "ns", "nerfstudio")
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    assert {(row.scene_id, row.split) for row in rows if row.scene_id.startswith("b")} == {
        ("b/train", "train")
    }
    assert left_out["r_10.png"] == "in none of the lists of its transforms.json"
