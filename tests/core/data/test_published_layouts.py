"""The papers' data sets of objects and landscapes, as small trees with the traps of the real ones.

Expected rows are written by hand.
"""

import gzip
import json

import numpy as np
import pytest
from layout_files import QUARTER, listed, made, matrix_text, names, write
from PIL import Image
from trees import save_picture

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts.records import LeftOut, Note, Refused
from distill3r_core.data.manifest import read_manifest
from distill3r_core.stages.manifest import ManifestSettings, build_manifest


def mvsnet(path, pose=QUARTER, k=((40, 0, 15.5), (0, 40, 11.5), (0, 0, 1)), depths="0 0.1"):
    write(path, f"extrinsic\n{matrix_text(pose)}\nintrinsic\n{matrix_text(k)}\n{depths}\n")


def pfm(path, depth):
    rows, columns = depth.shape
    made(path).write_bytes(
        f"Pf\n{columns} {rows}\n-1\n".encode() + np.flipud(depth).astype("<f4").tobytes()
    )


def test_blendedmvs_without_its_masked_copies(tmp_path):
    scene = tmp_path / "5a3ca9cb270f0e3f14d0eddb"
    for view in range(4):
        save_picture(scene / "blended_images" / f"{view:08d}.jpg", view)
        save_picture(scene / "blended_images" / f"{view:08d}_masked.jpg", view)
        mvsnet(scene / "cams" / f"{view:08d}_cam.txt")
        pfm(scene / "rendered_depth_maps" / f"{view:08d}.pfm", np.full((24, 32), 2.0 + view))
    write(scene / "cams" / "pair.txt", "4\n0\n1 1 0.5\n")
    scenes, rest = listed(tmp_path, "blendedmvs")
    assert [len(scene.frames) for scene in scenes.values()] == [4]
    assert [type(item) for item in rest] == [LeftOut] * 4
    frame = read_source_frame(next(iter(scenes.values())).frames[1])
    assert frame.world_from_cam is not None and frame.intrinsics is not None
    np.testing.assert_allclose(frame.world_from_cam @ QUARTER, np.eye(4), atol=1e-12)
    assert frame.intrinsics[:2, 2].tolist() == [16, 12]
    assert frame.depth is not None and np.unique(frame.depth).tolist() == [3]
    assert frame.unit == "none"


def write_co3d(root):
    annotations = []
    for sequence, count in (("110_1_1", 25), ("189_2_2", 3)):
        folder = root / "apple" / sequence
        for frame in [n for n in range(1, count + 2) if n != 2]:  # from 1, with a hole
            save_picture(folder / "images" / f"frame{frame:06d}.jpg", frame)
            depth = np.full((24, 32), 1.5, np.float16)
            depth[0] = 9
            Image.fromarray(depth.view(np.uint16)).save(
                made(folder / "depths" / f"frame{frame:06d}.jpg.geometric.png")
            )
            mask = np.full((24, 32), 255, np.uint8)
            mask[0] = 0
            Image.fromarray(mask).save(made(folder / "depth_masks" / f"frame{frame:06d}.png"))
            annotations.append(
                {
                    "sequence_name": sequence,
                    "frame_number": frame - 1,
                    "image": {
                        "path": f"apple/{sequence}/images/frame{frame:06d}.jpg",
                        "size": [24, 32],
                    },
                    "depth": {"path": "x", "scale_adjustment": 2.0},
                    "viewpoint": {
                        "R": [[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]],
                        "T": [1.0, 2.0, 3.0],
                        "focal_length": [2.0, 2.5],
                        "principal_point": [0.25, -0.5],
                        "intrinsics_format": "ndc_isotropic",
                    },
                }
            )
    with gzip.open(root / "apple" / "frame_annotations.jgz", "wt") as file:
        json.dump(annotations, file)
    for frame in range(1, 4):  # a category with a sequence that nothing is known of
        save_picture(root / "skateboard" / "1_1_1" / "images" / f"frame{frame:06d}.jpg", frame)
    with gzip.open(root / "skateboard" / "frame_annotations.jgz", "wt") as file:
        file.write("[]")


def test_co3d_turns(tmp_path):
    write_co3d(tmp_path)
    scenes, rest = listed(tmp_path, "co3d")
    assert {name: len(scene.frames) for name, scene in scenes.items()} == {
        "apple/110_1_1": 25,
        "apple/189_2_2": 3,
        "skateboard/1_1_1": 3,
    }
    assert ["skateboard/1_1_1" in item.text for item in rest if isinstance(item, Note)] == [True]
    frame = read_source_frame(scenes["apple/110_1_1"].frames[0])
    assert frame.intrinsics is not None and frame.depth is not None
    # Half the shorter side is 12: f = 24 and 30, c = 16 - 3 and 12 + 6.
    np.testing.assert_allclose(frame.intrinsics, [[24, 0, 13], [0, 30, 18], [0, 0, 1]])
    # x_cam = x_world R + T, then left and up become right and down.
    point = np.array([0.5, -1.0, 2.0])
    wanted = (point @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + (1, 2, 3)) * (-1, -1, 1)
    assert frame.world_from_cam is not None
    found = np.linalg.inv(frame.world_from_cam) @ np.append(point, 1)
    np.testing.assert_allclose(found[:3], wanted)
    assert not frame.depth[0].any()  # masked
    assert np.unique(frame.depth[1:]).tolist() == [3.0]  # 1.5 times its scale adjustment
    report = build_manifest(
        ManifestSettings((tmp_path,), tmp_path / "out", views=5, val_scenes=0.0), trust=True
    )
    assert report.result["datasets"][0]["layout"] == "co3d"
    rows = read_manifest(tmp_path / "out" / "manifest.csv").rows
    numbers = [row.sample_id for row in rows if row.scene_id == "apple/110_1_1"]
    # A turn: stride (25 - 1) // 4 = 6 in the list, whose second frame is number 3.
    assert numbers == ["000001", "000008", "000014", "000020", "000026"]


def test_a_damaged_annotation_is_refused(tmp_path):
    write_co3d(tmp_path)
    made(tmp_path / "apple" / "frame_annotations.jgz").write_bytes(b"\x1f\x8b broken")
    scenes, rest = listed(tmp_path, "co3d")
    assert list(scenes) == ["skateboard/1_1_1"]
    assert [item.path.name for item in rest if isinstance(item, Refused)] == [
        "frame_annotations.jgz"
    ]


def test_stereolunar_pairs(tmp_path):
    scene = tmp_path / "nadir_clean_0_90" / "moon_scene_0000"
    far = 1.77e6
    for number in range(6):
        save_picture(scene / f"im_{number:05d}.jpg", number, (32, 32))
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = far, 0.125 * number, -far
        k = np.array([[38, 0, 16], [0, 38, 16], [0, 0, 1]], np.float32)
        if number != 5:
            np.savez(scene / f"im_{number:05d}.npz", intrinsics=k, cam2world=pose)
    for name in ("train", "test"):
        np.savez(
            scene.parent / f"{name}.npz", scenes=np.array(["moon_scene_0000", None], dtype=object)
        )
    scenes, rest = listed(tmp_path, "stereolunar")
    assert {name.rpartition("/")[2]: names(one) for name, one in scenes.items()} == {
        f"0000{pair}": [f"im_0000{2 * pair}", f"im_0000{2 * pair + 1}"] for pair in range(3)
    }
    first, second, last = scenes.values()
    assert len({one.place for one in scenes.values()}) == 1
    shifts = [frame.pose[:3, 3].tolist() for frame in (*first.frames, *second.frames)]
    assert shifts == [[0, 0, 0], [0, 0.125, 0], [0, 0, 0], [0, 0.125, 0]]
    assert first.frames[0].rig.color[0].tolist() == [38, 0, 16]
    assert last.frames[1].pose is None and last.frames[1].rig is None
    assert all(frame.depth is None for frame in first.frames)  # no EXR
    (note,) = [item.text for item in rest if isinstance(item, Note)]
    assert "pickled objects are not read (train.npz and test.npz)" in note
    (scene / "im_00002.npz").write_bytes(b"PK\x03\x04")
    _, rest = listed(tmp_path, "stereolunar")
    assert [item.path.name for item in rest if isinstance(item, Refused)] == ["im_00002.jpg"]


@pytest.mark.parametrize(("name", "rows"), [("Rt", 4), ("extri", 3)])
def test_stereolunar_takes_the_other_direction_of_a_pose_as_well(tmp_path, name, rows):
    """As its README names it; the samples have `cam2world`."""
    scene = tmp_path / "nadir_clean_0_90" / "moon_scene_0000"
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    k = np.array([[38, 0, 16], [0, 38, 16], [0, 0, 1]], np.float32)
    for number in range(2):
        save_picture(scene / f"im_{number:05d}.jpg", number, (32, 32))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, (1000.0, 2.0 * number, 5.0)
        inverse = np.linalg.inv(pose)[:rows].astype(np.float32)
        np.savez(scene / f"im_{number:05d}.npz", **{"intrinsics": k, name: inverse})
    (one,) = listed(tmp_path, "stereolunar")[0].values()
    assert [frame.pose[:3, 3].tolist() for frame in one.frames] == [[0, 0, 0], [0, 2, 0]]
    assert all((frame.pose[:3, :3] == turn).all() for frame in one.frames)


def test_dtu_for_training_counts_images_from_one(tmp_path):
    for view in (1, 2, 3):
        for light in (0, 3):
            name = f"rect_{view:03d}_{light}_r5000.png"
            save_picture(tmp_path / "Rectified" / "scan1_train" / name, view, (512, 640))
        k = ((2892.0, 0, 822.5), (0, 2883.0, 618.5), (0, 0, 1))
        pose = np.eye(4)
        pose[0, 3] = -view
        mvsnet(tmp_path / "Cameras" / f"{view - 1:08d}_cam.txt", pose, k, "425 2.5")
        pfm(
            tmp_path / "Depths" / "scan1_train" / f"depth_map_{view - 1:04d}.pfm",
            np.full((128, 160), 500.0 + view),
        )
    scenes, _ = listed(tmp_path, "dtu")
    assert {name: len(scene.frames) for name, scene in scenes.items()} == {
        "scan1/light0": 3,
        "scan1/light3": 3,
    }
    assert scenes["scan1/light3"].is_test and not scenes["scan1/light0"].is_test
    frame = read_source_frame(scenes["scan1/light0"].frames[1])
    assert frame.world_from_cam is not None and frame.depth is not None
    assert frame.world_from_cam[0, 3] == 2  # of the second camera file, which is number 1
    assert np.unique(frame.depth).tolist() == [502]
    assert frame.unit == "mm"
    # Halved, centers at +0.5, then cut by 80 columns and 44 rows.
    np.testing.assert_allclose(
        frame.intrinsics, [[1446, 0, 823 / 2 - 80], [0, 1441.5, 619 / 2 - 44], [0, 0, 1]]
    )


def test_dtu_for_testing(tmp_path):
    for view in range(3):
        scan_1 = tmp_path / "scan1"
        save_picture(scan_1 / "images" / f"{view:08d}.jpg", view, (60, 80))
        k = ((2892.0, 0, 799.5), (0, 2883.0, 599.5), (0, 0, 1))
        mvsnet(scan_1 / "cams" / f"{view:08d}_cam.txt", QUARTER, k)
        np.save(made(scan_1 / "depths" / f"{view:08d}.npy"), np.full((60, 80), 700, np.float32))
        mask = np.zeros((60, 80), np.uint8)
        mask[:, 40:] = 255
        Image.fromarray(mask).save(made(scan_1 / "binary_masks" / f"{view:08d}.png"))
    scenes, _ = listed(tmp_path, "dtu")
    assert scenes["scan1"].split == "val"
    frame = read_source_frame(scenes["scan1"].frames[0])
    assert frame.intrinsics is not None and frame.mask is not None
    assert frame.intrinsics[:2, 2].tolist() == pytest.approx([40, 30])
    assert frame.mask.mean() == 0.5


def _full_scan(root):
    save_picture(root / "Rectified" / "scan1" / "rect_001_3_r5000.png", 1, (60, 80))
    k = ((2892.0, 0, 799.5), (0, 2883.0, 599.5), (0, 0, 1))
    mvsnet(root / "Cameras" / "00000000_cam.txt", np.eye(4), k, "425 2.5")


@pytest.mark.parametrize("name", ["Depths_raw", "Depths"])
def test_depth_of_full_size_images_of_dtu_is_found_by_its_size(tmp_path, name):
    _full_scan(tmp_path)
    depth = tmp_path / name / "scan1" / "depth_map_0000.pfm"
    pfm(depth, np.full((1200, 1600), 600.0))
    mask = np.full((1200, 1600), 255, np.uint8)
    mask[600:] = 0
    mask[:20] = 100  # smeared by resizing
    Image.fromarray(mask).save(depth.with_name("depth_visual_0000.png"))
    scenes, rest = listed(tmp_path, "dtu")
    frame = read_source_frame(scenes["scan1/light3"].frames[0])
    assert frame.depth is not None
    assert not frame.depth[30:].any() and not frame.depth[0].any()
    assert np.unique(frame.depth[1:30]).tolist() == [600]
    assert not rest


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "Depths/scan1/depth_map_0000.pfm is 160x128, its images 1600x1200"),
        (b"Pf\n160 128\n-1\nshort", "depth of 160x128 pixels has 5 bytes"),
    ],
)
def test_depth_of_another_size_is_none_of_dtus_full_images(tmp_path, content, reason):
    _full_scan(tmp_path)
    depth = made(tmp_path / "Depths" / "scan1" / "depth_map_0000.pfm")
    pfm(depth, np.full((128, 160), 600.0))
    if content is not None:
        depth.write_bytes(content)
    scenes, (note,) = listed(tmp_path, "dtu")
    assert isinstance(note, Note) and reason in note.text
    assert read_source_frame(scenes["scan1/light3"].frames[0]).depth is None


def test_pixels_outside_the_mask_of_dtus_training_depth_are_invalid(tmp_path):
    image = tmp_path / "Rectified" / "scan1_train" / "rect_001_3_r5000.png"
    save_picture(image, 1, (512, 640))
    k = ((2892.0, 0, 822.5), (0, 2883.0, 618.5), (0, 0, 1))
    mvsnet(tmp_path / "Cameras" / "00000000_cam.txt", np.eye(4), k, "425 2.5")
    depth = tmp_path / "Depths" / "scan1_train" / "depth_map_0000.pfm"
    pfm(depth, np.full((128, 160), 600.0))
    mask = np.full((128, 160), 255, np.uint8)
    mask[:, :80] = 0
    Image.fromarray(mask).save(depth.with_name("depth_visual_0000.png"))
    scenes, _ = listed(tmp_path, "dtu")
    frame = read_source_frame(scenes["scan1/light3"].frames[0])
    assert frame.depth is not None and frame.depth.shape == (512, 640)
    assert not frame.depth[:, :320].any() and (frame.depth[:, 320:] == 600).all()
