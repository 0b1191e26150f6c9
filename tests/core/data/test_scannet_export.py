"""ScanNet as its C++ exporter writes it, which looks like 7-Scenes, and before it is exported."""

import numpy as np
import pytest
from layout_files import listed, made, matrix_text, names, write
from trees import (
    photos,
    rejected,
    rgbd_scene,
    save_depth,
    save_picture,
    save_pose,
    sevenscenes_sequence,
)

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import LeftOut, Note, Refused, detect_layout, scan
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ImageError, NothingUsableError
from distill3r_core.io.images.depth import read_pgm16
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

INFO = """m_versionNumber = 4
m_sensorName = StructureSensor
m_colorWidth = 64
m_colorHeight = 48
m_depthWidth = 16
m_depthHeight = 12
m_depthShift = 2000
m_calibrationColorIntrinsic = 60 0 31.5 0 0 62 23.5 0 0 0 1 0 0 0 0 1
m_calibrationDepthIntrinsic = 9 0 0 0 0 9 0 0 0 0 1 0 0 0 0 1
m_calibrationDepthExtrinsic = 1 0 0 {shift} 0 1 0 0 0 0 1 0 0 0 0 1
m_frames.size = 3
"""
EYE = "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"


def pgm(path, values):
    header = "P5\n# data values are 16-bit each; depth shift is 2000\n"
    header += f"{values.shape[1]} {values.shape[0]}\n65535\n"
    made(path).write_bytes(header.encode() + values.astype(">u2").tobytes())


def export(folder, *, shift=0.0):
    for number in (0, 1, 2):
        stem = f"frame-{number:06d}"
        save_picture(folder / f"{stem}.color.jpg", number)
        save_pose(folder / f"{stem}.pose.txt", number)
        if number:
            pgm(folder / f"{stem}.depth.pgm", np.full((12, 16), 3000 + number))
        else:
            save_depth(folder / f"{stem}.depth.png", 3000, size=(12, 16))
    write(folder / "frame-000002.pose.txt", matrix_text(np.full((4, 4), -np.inf)))
    write(folder / "_info.txt", INFO.format(shift=shift))


def test_an_export_in_cpp_is_no_sequence_of_7scenes(tmp_path):
    export(tmp_path / "scans" / "scene0000_01")
    scenes, rest = listed(tmp_path, "scannet")
    (scene,) = scenes.values()
    assert (scene.scene_id, scene.place) == ("scans/scene0000_01", "scene0000")
    assert names(scene) == ["frame-000000", "frame-000001", "frame-000002"]
    for frame, depth in zip(scene.frames, (3000, 3001, 3002), strict=True):
        source = read_source_frame(frame)
        assert source.depth is not None and source.depth.shape == (24, 32)
        assert np.unique(source.depth).tolist() == [np.float32(depth / 2000)]  # by m_depthShift
        # K of images of twice the size, its center moved by half a pixel.
        np.testing.assert_allclose(source.intrinsics, [[30, 0, 16], [0, 31, 12], [0, 0, 1]])
        assert not source.is_nominal
    assert scene.frames[2].pose is None
    assert [item.text.partition(": ")[2] for item in rest if isinstance(item, Note)] == [
        "1 of 3 frames has no pose: tracking was lost"
    ]
    (dataset,) = scan(tmp_path, "7scenes")
    assert not [item for item in dataset.list_scenes() if hasattr(item, "frames")]


def test_depth_that_is_said_to_have_another_camera_is_noted(tmp_path):
    export(tmp_path / "cpp" / "scene0000_00", shift=0.02)
    _, rest = listed(tmp_path / "cpp", "scannet")
    assert any("not the identity" in item.text for item in rest if isinstance(item, Note))
    folder = tmp_path / "python" / "scene0000_00"
    for number in range(2):
        save_picture(folder / "color" / f"{number}.jpg", number)
        save_pose(folder / "pose" / f"{number}.txt")
    write(folder / "intrinsic" / "intrinsic_color.txt", "30 0 16 0 0 30 12 0 0 0 1 0 0 0 0 1")
    write(folder / "intrinsic" / "extrinsic_depth.txt", EYE)
    assert not listed(tmp_path / "python", "scannet")[1]
    write(folder / "intrinsic" / "extrinsic_depth.txt", EYE.replace("1 0 0 0", "1 0 0 0.02", 1))
    (note,) = listed(tmp_path / "python", "scannet")[1]
    assert "not the identity" in note.text


def test_a_recording_that_is_not_exported_is_refused_with_its_exporter(tmp_path):
    scene = tmp_path / "scans" / "scene0000_00"
    made(scene / "scene0000_00.sens").write_bytes(b"\4\0\0\0")
    scenes, (refused,) = listed(tmp_path, "scannet")
    assert not scenes and isinstance(refused, Refused)
    assert refused.path.name == "scene0000_00.sens" and "SensReader" in refused.reason
    with pytest.raises(NothingUsableError):
        build_manifest(ManifestSettings((tmp_path / "scans",), tmp_path / "out"))
    assert "SensReader" in rejected(tmp_path / "out")["scene0000_00.sens"]
    export(scene / "exported")
    scenes, rest = listed(tmp_path, "scannet")
    assert list(scenes) == ["scans/scene0000_00/exported"]
    assert not [item for item in rest if isinstance(item, Refused)]


def sens(path):
    made(path).write_bytes(b"\4\0\0\0")


def refused_names(root):
    [dataset] = scan(root, "scannet")
    return [item.path.name for item in dataset.list_scenes() if isinstance(item, Refused)]


def test_recordings_beside_exports_are_refused_by_name(tmp_path):
    flat = tmp_path / "flat"
    for name in ("scene0000_00", "scene0001_00", "desk"):
        sens(flat / f"{name}.sens")
    export(flat / "scene0000_00")
    assert refused_names(flat) == ["desk.sens", "scene0001_00.sens"]
    apart = tmp_path / "apart"
    for name in ("scene0000_00", "scene0001_00"):
        sens(apart / "raw" / name / f"{name}.sens")
    export(apart / "exported" / "scene0001_00")
    assert refused_names(apart) == ["scene0000_00.sens"]
    # In a folder of its own, whatever is exported is of the recording.
    own = tmp_path / "own"
    sens(own / "desk" / "recording.sens")
    export(own / "desk" / "frames")
    sens(own / "shelf" / "recording.sens")
    export(own / "shelf")
    sens(own / "scans" / "scene0003_00.sens")
    export(own / "scans" / "scene0004_00")
    assert refused_names(own) == ["scene0003_00.sens"]


def test_recordings_hide_nothing_in_the_exports_around_them(tmp_path):
    sens(tmp_path / "scene0001_00.sens")
    export(tmp_path / "scene0000_00")
    save_picture(tmp_path / "scene0000_00" / "preview.jpg", 5)
    save_picture(tmp_path / "photos" / "a.jpg", 6)
    _, rest = listed(tmp_path, "scannet")
    assert {item.path.name for item in rest if isinstance(item, LeftOut)} == {
        "preview.jpg",
        "a.jpg",
    }


@pytest.mark.parametrize(
    ("write_tree", "layout"),
    [
        (lambda root: rgbd_scene(root / "room", 2), "rgbd"),
        (lambda root: photos(root / "house", 2), "images"),
        (lambda root: made(root / "walk.mp4").write_bytes(b""), "images"),
        (lambda root: made(root / "scene0000_00" / "scene0000_00.txt").write_bytes(b""), "scannet"),
    ],
)
def test_a_recording_decides_only_where_nothing_else_does(tmp_path, write_tree, layout):
    sens(tmp_path / "old" / "scene0000_00.sens")
    write_tree(tmp_path)
    assert detect_layout(tmp_path)[0].name == layout


def test_scans_of_a_room_are_in_one_split_wherever_they_are_exported_to(tmp_path):
    root = tmp_path / "scannet"
    for room in range(6):
        for visit in range(2):
            export(root / "scans" / f"scene{room:04d}_{visit:02d}" / "exported")
    settings = ManifestSettings((root,), tmp_path / "out", views=2, val_scenes=0.5)
    build_manifest(settings, trust=True)
    sides = {}
    for row in read_manifest(tmp_path / "out" / "manifest.csv").rows:
        _, scan_name, _ = row.scene_id.split("/")
        sides.setdefault(scan_name[:9], set()).add(row.split)
    assert len(sides) == 6
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "val"}


def test_the_lists_name_a_scan_whose_export_is_in_a_folder_of_it(tmp_path):
    export(tmp_path / "scans" / "scene0000_00" / "exported")
    write(tmp_path / "scannetv2_val.txt", "scene0000_00\n")
    (scene,) = listed(tmp_path / "scans", "scannet")[0].values()
    assert (scene.split, scene.place) == ("val", "scene0000")


@pytest.mark.parametrize(
    ("old", "new"),
    [("= 64", "= wide"), ("m_colorHeight", "m_height"), ("60 0 31.5", "60 31.5"), ("2000", "-1")],
)
def test_a_damaged_info_file_is_refused_by_name(tmp_path, old, new):
    export(tmp_path / "scene0000_00")
    write(tmp_path / "scene0000_00" / "_info.txt", INFO.format(shift=0).replace(old, new))
    scenes, (refused, *_) = listed(tmp_path, "scannet")
    assert not scenes and isinstance(refused, Refused)
    assert "_info.txt is damaged" in refused.reason


def test_7scenes_stay_what_they_are(tmp_path):
    sevenscenes_sequence(tmp_path / "chess" / "seq-01", 2)
    assert detect_layout(tmp_path)[0].name == "7scenes"


def test_a_pgm_of_depth_has_16_bits(tmp_path):
    values = np.array([[0, 1, 256], [1000, 40000, 65535]])
    pgm(tmp_path / "depth.pgm", values)
    np.testing.assert_array_equal(read_pgm16(tmp_path / "depth.pgm"), values)
    (tmp_path / "small.pgm").write_bytes(b"P5\n3 2\n255\nabcdef")
    with pytest.raises(ImageError, match="not 16-bit gray"):
        read_pgm16(tmp_path / "small.pgm")
    (tmp_path / "cut.pgm").write_bytes((tmp_path / "depth.pgm").read_bytes()[:-4])
    with pytest.raises(ImageError):
        read_pgm16(tmp_path / "cut.pgm")
    with pytest.raises(ImageError, match="not a PGM"):
        read_pgm16(save_depth(tmp_path / "depth.png"))


@pytest.mark.parametrize(
    ("poses", "said"),
    [
        ({}, "3 of 3 frames have no pose: no file"),
        ({0: np.eye(4), 1: np.eye(4)}, "1 of 3 frames has no pose: no file"),
        (
            {0: np.full((4, 4), -np.inf)},
            "3 of 3 frames have no pose: 1 lost tracking, 2 without a file",
        ),
        (
            {n: np.full((4, 4), np.nan) for n in range(3)},
            "3 of 3 frames have no pose: tracking was lost",
        ),
    ],
)
def test_tracking_was_lost_only_where_a_pose_is_not_finite(tmp_path, poses, said):
    folder = tmp_path / "scene0000_00"
    for number in range(3):
        save_picture(folder / "color" / f"{number}.jpg", number)
        if number in poses:
            write(folder / "pose" / f"{number}.txt", matrix_text(poses[number]))
    write(folder / "intrinsic" / "intrinsic_color.txt", "30 0 16 0 0 30 12 0 0 0 1 0 0 0 0 1")
    _, rest = listed(tmp_path, "scannet")
    assert [item.text.partition(": ")[2] for item in rest if isinstance(item, Note)] == [said]
