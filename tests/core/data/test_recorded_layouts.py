"""Recordings that people have: `manifest` reads them in their layouts. Rows are written by hand."""

import json
import re
import struct

import numpy as np
import pytest
from PIL import Image
from trees import rejected, save_depth, save_picture

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import Refused, Scene, scan
from distill3r_core.data.layouts.records import Rig
from distill3r_core.data.manifest import read_manifest
from distill3r_core.errors import ImageError
from distill3r_core.stages.manifest import ManifestSettings, build_manifest

# A quarter turn about z: x, y, z, w.
QUARTER = (0.0, 0.0, 0.5**0.5, 0.5**0.5)


def rows(root, out, **settings):
    """Rows by scene and name of the source, and the notes."""
    report = build_manifest(ManifestSettings((root,), out, val_scenes=0.0, **settings), trust=True)
    found = read_manifest(out / "manifest.csv").rows
    return {(row.scene_id, row.sample_id): row for row in found}, report


def matrix(row):
    return np.array(row.pose).reshape(-1, 4)


def write_tum(folder, *, stamps=(999.98, 1000.0, 1000.05, 1000.1, 1000.15)):
    for index, stamp in enumerate(stamps):
        save_picture(folder / "rgb" / f"{stamp:.6f}.png", index)
        Image.fromarray(np.full((24, 32), 5000 + index, np.uint16)).save(
            _made(folder / "depth" / f"{stamp + 0.005:.6f}.png")
        )
    # Listed in another order than time's; one depth map 0.021 s away.
    lines = [f"{s:.6f} rgb/{s:.6f}.png" for s in reversed(stamps)]
    (folder / "rgb.txt").write_text("# color images\n" + "\n".join(lines) + "\n")
    lines = [f"{s + 0.005:.6f} depth/{s + 0.005:.6f}.png" for s in stamps[:-1]]
    lines += [f"{stamps[-1] + 0.021:.6f} depth/{stamps[-1] + 0.005:.6f}.png"]
    (folder / "depth.txt").write_text("# depth maps\n" + "\n".join(lines) + "\n")
    poses = [f"{s:.6f} {i} 0 0 0 0 0 1" for i, s in enumerate(stamps[:-1])]
    (folder / "groundtruth.txt").write_text("# stamp tx ty tz qx qy qz qw\n" + "\n".join(poses))


def _made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_tum(tmp_path):
    write_tum(tmp_path / "tum" / "rgbd_dataset_freiburg3_a")
    write_tum(tmp_path / "tum" / "mine")
    found, report = rows(tmp_path / "tum", tmp_path / "out", views=5)
    assert report.result["datasets"][0]["layout"] == "tum"
    scene = "rgbd_dataset_freiburg3_a"
    mine = [row for (name, _), row in sorted(found.items()) if name == scene]
    # By time, not as listed, nor as text would be sorted.
    assert [row.sample_id for row in mine] == ["029999", "030000", "030002", "030003"]
    assert all(row.depth_path for row in mine)
    assert [matrix(row)[0, 3] for row in mine] == [0, 1, 2, 3]
    reason = "it has no depth map, as others of its scene have"
    assert rejected(tmp_path / "out")["1000.150000.png"] == reason
    k = mine[0].K  # of 640x480, for 32x24; centers at +0.5
    np.testing.assert_allclose(
        k, [535.4 / 20, 0, 320.6 / 20, 0, 539.2 / 20, 248.1 / 20, 0, 0, 1], rtol=1e-6
    )
    with Image.open(tmp_path / "out" / mine[1].depth_path) as depth:
        assert np.unique(np.asarray(depth)).tolist() == [1000]  # 5001 units of 0.2 mm
    assert any("525 pixels are assumed" in note and "mine" in note for note in report.notes)


def test_only_a_camera_that_is_assumed_is_nominal(tmp_path):
    for name in ("rgbd_dataset_freiburg1_a", "mine", "own"):
        write_tum(tmp_path / "tum" / name)
    (tmp_path / "tum" / "own" / "intrinsics.txt").write_text("500 0 320\n0 500 240\n0 0 1\n")
    (dataset,) = scan(tmp_path / "tum")
    nominal = {
        one.scene_id: {frame.rig.is_nominal for frame in one.frames}
        for one in dataset.list_scenes()
        if isinstance(one, Scene)
    }
    assert nominal == {"rgbd_dataset_freiburg1_a": {False}, "mine": {True}, "own": {False}}


def test_scannet(tmp_path):
    for scan_name in ("scene0000_00", "scene0000_01"):
        folder = tmp_path / "scans" / scan_name
        for number in (10, 2, 1):
            save_picture(folder / "color" / f"{number}.jpg", number)
            save_depth(folder / "depth" / f"{number}.png", 1000 + number, size=(12, 16))
            pose = np.eye(4)
            pose[0, 3] = -np.inf if number == 2 else number
            _made(folder / "pose" / f"{number}.txt")
            np.savetxt(folder / "pose" / f"{number}.txt", pose)
        k = np.diag([1296.0, 968.0, 1.0, 1.0])
        k[0, 2], k[1, 2] = 647.5, 483.5
        _made(folder / "intrinsic" / "intrinsic_color.txt")
        np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", k)
    found, report = rows(tmp_path / "scans", tmp_path / "out", views=3)
    assert report.result["datasets"][0]["layout"] == "scannet"
    mine = [row for (name, _), row in sorted(found.items()) if name == "scene0000_00"]
    assert [row.sample_id for row in mine] == ["000001", "000010"]
    assert all(row.pose for row in mine)
    assert rejected(tmp_path / "out") == {"2.jpg": "it has no pose, as others of its scene have"}
    # K of 1296x968 for images of 32x24, its center half of them.
    np.testing.assert_allclose(mine[0].K, [32, 0, 16, 0, 24, 12, 0, 0, 1], rtol=1e-6)
    with Image.open(tmp_path / "out" / mine[1].depth_path) as depth:
        assert depth.size == (32, 24)
        assert np.unique(np.asarray(depth)).tolist() == [1010]
    assert sum("tracking was lost" in note for note in report.notes) == 2


def test_a_damaged_pose_of_scannet_is_not_called_lost_tracking(tmp_path):
    folder = tmp_path / "scene0000_00"
    poses = {1: np.eye(4), 2: np.full((4, 4), -np.inf), 3: np.eye(4)[:3], 4: None, 5: np.eye(4)}
    for number, pose in poses.items():
        save_picture(folder / "color" / f"{number}.jpg", number)
        if pose is not None:
            np.savetxt(_made(folder / "pose" / f"{number}.txt"), pose)
    np.savetxt(
        _made(folder / "intrinsic" / "intrinsic_color.txt"),
        [[30, 0, 16, 0], [0, 30, 12, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    )
    found, report = rows(tmp_path, tmp_path / "out", views=4)
    assert {row.sample_id: bool(row.pose) for row in found.values()} == {
        "000001": True,
        "000002": False,
        "000004": False,
        "000005": True,
    }
    assert rejected(tmp_path / "out") == {"3.jpg": "pose has 12 numbers, not 16"}
    assert any("2 of 5 frames have no pose" in note for note in report.notes)


def test_scans_of_one_room_are_in_one_split(tmp_path):
    for space in range(8):
        for take in range(2):
            folder = tmp_path / "scans" / f"scene{space:04d}_{take:02d}"
            for number in range(2):
                save_picture(folder / "color" / f"{number}.jpg", number)
            _made(folder / "intrinsic" / "intrinsic_color.txt")
            np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", np.eye(4) * 500)
            k = np.eye(4)
            k[0, 0] = k[1, 1] = 500
            k[0, 2], k[1, 2] = 600, 400
            np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", k)
    report = build_manifest(
        ManifestSettings((tmp_path / "scans",), tmp_path / "out", views=2, val_scenes=0.5)
    )
    assert report.result["samples"]["val"] > 0
    splits = {}
    for row in read_manifest(tmp_path / "out" / "manifest.csv").rows:
        splits.setdefault(row.scene_id[:9], set()).add(row.split)
    assert len(splits) == 8
    assert all(len(found) == 1 for found in splits.values())


def write_nerfstudio(folder, **content):
    frames = []
    for number in (10, 9, 2):
        save_picture(folder / "images" / f"f_{number}.png", number)
        save_depth(folder / "depth" / f"f_{number}.png", 500 * number, size=(12, 16))
        pose = np.eye(4)
        pose[0, 3] = number
        frames.append(
            {
                "file_path": f"images/f_{number}.png",
                "depth_file_path": f"depth/f_{number}.png",
                "transform_matrix": pose.tolist(),
                "cx": 16.0,
                "cy": 12.0,
            }
        )
    _made(folder / "transforms.json")
    (folder / "transforms.json").write_text(
        json.dumps({"fl_x": 30.0, "fl_y": 31.0, "w": 32, "h": 24, "frames": frames, **content})
    )


def test_nerfstudio(tmp_path):
    write_nerfstudio(tmp_path / "ns" / "a", applied_transform=np.eye(4)[:3].tolist())
    write_nerfstudio(tmp_path / "ns" / "b", fl_x=None, fl_y=None, camera_angle_x=np.pi / 2)
    found, report = rows(tmp_path / "ns", tmp_path / "out", views=3)
    assert report.result["datasets"][0]["layout"] == "nerfstudio"
    mine = [row for (name, _), row in found.items() if name == "a"]
    assert [matrix(row)[0, 3] for row in mine] == [2, 9, 10]
    # OpenGL axes: y and z of the camera turn round.
    np.testing.assert_allclose(matrix(mine[0])[:3, :3], np.diag([1, -1, -1]))
    np.testing.assert_allclose(mine[0].K, [30, 0, 16, 0, 31, 12, 0, 0, 1])
    assert {row.unit for row in mine} == {"none"}
    depth = np.load(tmp_path / "out" / mine[0].depth_path)  # no unit: not millimeters
    assert depth.shape == (24, 32)
    assert np.unique(depth).tolist() == [1.0]
    other = [row for (name, _), row in found.items() if name == "b"]
    assert (other[0].K[0], other[0].K[4]) == pytest.approx((16, 16))


@pytest.mark.parametrize(
    "damage",
    [
        {"frames": "none"},
        {"frames": [{"file_path": "../../etc/passwd", "transform_matrix": np.eye(4).tolist()}]},
        {"frames": [{"file_path": "images/f_2.png", "transform_matrix": [[1, "x"]]}]},
        {"frames": [{"file_path": 7}, 8]},
        {"frames": [{"file_path": "images/f_2.png", "transform_matrix": [[10**400] * 4] * 4}]},
        {"frames": [{"file_path": "x" * 300, "transform_matrix": np.eye(4).tolist()}]},
        {"fl_x": "wide"},
        {"fl_x": 10**400},
    ],
)
def test_a_damaged_transforms_file_is_refused_by_name(tmp_path, damage):
    write_nerfstudio(tmp_path / "a", **damage)
    [dataset] = scan(tmp_path, "nerfstudio")
    listed = list(dataset.list_scenes())
    refused = [item for item in listed if type(item).__name__ == "Refused"]
    assert refused
    assert all(
        not frame.image.is_absolute() or tmp_path in frame.image.parents
        for item in listed
        if type(item).__name__ == "Scene"
        for frame in item.frames
    )


def write_colmap(folder, *, binary):
    for index, name in enumerate(("a b.png", "s/c.png", "d.png")):
        save_picture(folder / "images" / name, index)
    model = _made(folder / "sparse" / "0" / "cameras.txt").parent
    (model / "cameras.txt").write_text(
        "# comment\n1 SIMPLE_RADIAL 64 48 60 32 24 0.01\n2 OPENCV_FISHEYE 32 24 9 9 16 12 0 0 0 0\n"
    )
    z, w = QUARTER[2], QUARTER[3]
    (model / "images.txt").write_text(
        f"# comment\n1 {w} 0 0 {z} 1 2 3 1 a b.png\n\n2 1 0 0 0 0 0 0 2 s/c.png\n1 2 -1\n"
    )
    if binary:  # differs by the focal length of the first camera: it wins
        cameras = struct.pack("<Q", 2)
        cameras += struct.pack("<IiQQ4d", 1, 2, 64, 48, 80.0, 32.0, 24.0, 0.01)
        cameras += struct.pack("<IiQQ8d", 2, 5, 32, 24, 9, 9, 16, 12, 0, 0, 0, 0)
        (model / "cameras.bin").write_bytes(cameras)
        images = struct.pack("<Q", 2)
        images += struct.pack("<I7dI", 1, w, 0, 0, z, 1, 2, 3, 1) + b"a b.png\0"
        images += struct.pack("<Q", 1) + struct.pack("<ddQ", 1, 2, 2**64 - 1)
        images += struct.pack("<I7dI", 2, 1, 0, 0, 0, 0, 0, 0, 2) + b"s/c.png\0"
        images += struct.pack("<Q", 0)
        (model / "images.bin").write_bytes(images)
    other = _made(folder / "sparse" / "1" / "cameras.txt").parent
    (other / "cameras.txt").write_text("1 PINHOLE 32 24 9 9 16 12\n")
    (other / "images.txt").write_text("1 1 0 0 0 0 0 0 1 d.png\n\n")


@pytest.mark.parametrize("binary", [False, True])
def test_colmap(tmp_path, binary):
    write_colmap(tmp_path / "c", binary=binary)
    found, report = rows(tmp_path / "c", tmp_path / "out", views=3)
    assert report.result["datasets"][0]["layout"] == "colmap"
    by_image = {row.image_path.rsplit("/", 1)[-1]: row for row in found.values()}
    first = by_image["a b.png"]
    # The inverse of a quarter turn and (1, 2, 3), by hand.
    np.testing.assert_allclose(
        matrix(first)[:3], [[0, 1, 0, -2], [-1, 0, 0, 1], [0, 0, 1, -3]], atol=1e-12
    )
    focal = 40 if binary else 30
    np.testing.assert_allclose(first.K, [focal, 0, 16, 0, focal, 12, 0, 0, 1])
    assert by_image["s_c.png"].camera == "fisheye"
    assert by_image["d.png"].pose is None
    text = " ".join(report.notes)
    for expected in ("OPENCV_FISHEYE", "sparse/1 (1 image) left out", "1 of 3 images is not in"):
        assert expected in text


def write_polycam(folder, *, corrected):
    frames = folder / "keyframes"
    kinds = ("", "corrected_") if corrected else ("",)
    for index, stamp in enumerate((99, 100, 1000)):
        for kind in kinds:
            save_picture(frames / f"{kind}images" / f"{stamp}.jpg", index)
            camera = {f"t_{row}{column}": 0.0 for row in range(3) for column in range(4)}
            camera |= {"t_00": 1.0, "t_11": 1.0, "t_22": 1.0, "t_03": float(stamp)}
            camera |= {"fx": 60, "fy": 62, "cx": 32, "cy": 24, "width": 64, "height": 48}
            if kind:
                camera["fx"] = 64
            if (kind, stamp) != ("", 100):
                _made(frames / f"{kind}cameras" / f"{stamp}.json")
                (frames / f"{kind}cameras" / f"{stamp}.json").write_text(json.dumps(camera))
        save_depth(frames / "depth" / f"{stamp}.png", 1500, size=(12, 16))
        confidence = np.full((12, 16), 255, np.uint8)
        confidence[0] = 127
        Image.fromarray(confidence).save(_made(frames / "confidence" / f"{stamp}.png"))


def test_polycam(tmp_path):
    write_polycam(tmp_path / "p" / "with", corrected=True)
    write_polycam(tmp_path / "p" / "without", corrected=False)
    found, report = rows(tmp_path / "p", tmp_path / "out", views=3)
    assert report.result["datasets"][0]["layout"] == "polycam"
    mine = [row for (name, _), row in found.items() if name == "with"]
    assert [matrix(row)[0, 3] for row in mine] == [99, 100, 1000]
    np.testing.assert_allclose(matrix(mine[0])[:3, :3], np.diag([1, -1, -1]))
    assert mine[0].K[0] == 32  # the corrected camera's, halved
    with Image.open(tmp_path / "out" / mine[0].depth_path) as depth:
        values = np.asarray(depth)
    assert not values[:2].any()
    assert np.unique(values[2:]).tolist() == [1500]
    other = [row for (name, _), row in found.items() if name == "without"]
    assert [matrix(row)[0, 3] for row in other] == [99, 1000]  # one without a camera
    assert other[0].K[0] == 30


def test_open3d_recordings_have_depth_without_poses(tmp_path):
    for number in range(3):
        save_picture(tmp_path / "rec" / "color" / f"{number:06d}.jpg", number)
        save_depth(tmp_path / "rec" / "depth" / f"{number:06d}.png", 900)
    content = {"width": 64, "height": 48, "intrinsic_matrix": [60, 0, 0, 0, 62, 0, 31.5, 23.5, 1]}
    (tmp_path / "rec" / "camera_intrinsic.json").write_text(json.dumps(content))
    found, report = rows(tmp_path / "rec", tmp_path / "out", views=3)
    assert report.result["datasets"][0]["layout"] == "open3d"
    row = next(iter(found.values()))
    np.testing.assert_allclose(row.K, [30, 0, 16, 0, 31, 12, 0, 0, 1])
    assert row.pose is None
    assert row.depth_path


@pytest.mark.parametrize("size", [(0, 640), (480, 0), (-1, 640)])
def test_a_camera_whose_images_have_no_pixel_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]}x{size[1]}"):
        Rig(np.eye(3), size)


@pytest.mark.parametrize("side", ["0", "-3", "1e999", "1" + "0" * 400])
def test_a_camera_of_no_possible_size_is_named(tmp_path, side):
    write_polycam(tmp_path / "polycam" / "one", corrected=True)
    (camera, *_) = sorted((tmp_path / "polycam" / "one").rglob("corrected_cameras/*.json"))
    content = json.loads(camera.read_text())
    camera.write_text(re.sub(r'"width": \d+', f'"width": {side}', json.dumps(content)))
    (refused,) = (
        found
        for dataset in scan(tmp_path / "polycam", "polycam")
        for found in dataset.list_scenes()
        if isinstance(found, Refused)
    )
    assert "pixels" in refused.reason or "infinity" in refused.reason


def test_a_name_that_no_file_can_have_is_refused(tmp_path) -> None:
    folder = tmp_path / "recording"
    save_picture(folder / "rgb/1.0.png", 0)
    long = "1" + 300 * "0"
    (folder / "rgb.txt").write_text(f"1.0 rgb/1.0.png\n2.0 rgb/{long}.png\n")
    (dataset,) = scan(tmp_path, "tum")
    (scene,) = (item for item in dataset.list_scenes() if isinstance(item, Scene))
    first, second = scene.frames
    assert read_source_frame(first).pixels.shape[2] == 3
    with pytest.raises(ImageError, match="too long"):
        read_source_frame(second)
