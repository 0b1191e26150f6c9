"""ARKitScenes as small trees with the traps of the real ones: times, turns, visits and splits.

Expected rows are written by hand.
"""

from dataclasses import replace

import numpy as np
import pytest
from layout_files import listed, made, names, write
from PIL import Image
from scipy.spatial.transform import Rotation
from trees import save_depth, save_picture

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.layouts import scan
from distill3r_core.data.layouts.records import Scene
from distill3r_core.data.windows import stride_of


def test_arkitscenes_in_the_order_of_time(tmp_path):
    video = tmp_path / "raw" / "Training" / "41048190"
    stamps = (998.9, 999.9, 1000.003, 1001.2)
    for index, stamp in enumerate(stamps):
        save_picture(video / "vga_wide" / f"41048190_{stamp:.3f}.png", index)
        off = stamp + (0.001 if index == 1 else 0)
        write(video / "vga_wide_intrinsics" / f"41048190_{off:.3f}.pincam", "64 48 50 52 31.5 23.5")
    save_depth(video / "lowres_depth" / "41048190_999.910.png", 1234, size=(12, 16))
    confidence = np.full((12, 16), 2, np.uint8)
    confidence[0] = 1
    Image.fromarray(confidence).save(made(video / "confidence" / "41048190_999.910.png"))
    # Camera-from-world: a shift by -1, -2, -3 is a camera at 1, 2, 3; halfway between two stamps.
    write(video / "lowres_wide.traj", "999.85 0 0 0 -1 -2 -3\n999.95 0 0 0 -3 -2 -3\n")
    other = tmp_path / "raw" / "Validation" / "42"
    for index in range(2):
        save_picture(other / "lowres_wide" / f"42_{index}.500.png", index)
        write(other / "lowres_wide_intrinsics" / f"42_{index}.500.pincam", "32 24 9 9 15.5 11.5")
    write(
        tmp_path / "raw" / "raw_train_val_splits.csv",
        "video_id,visit_id,fold\n41048190,7,Training\n42,NA,Validation\n",
    )
    scenes, _ = listed(tmp_path, "arkitscenes")
    first, second = scenes["raw/Training/41048190"], scenes["raw/Validation/42"]
    assert names(first) == [f"41048190_{stamp:.3f}" for stamp in stamps]
    assert (first.split, first.place, second.split, second.place) == (
        "train",
        "visit 7",
        "val",
        None,
    )
    assert all(frame.rig is not None for frame in first.frames)
    frame = read_source_frame(first.frames[1])
    assert frame.depth is not None and frame.world_from_cam is not None
    assert not frame.depth[:2].any()
    assert np.unique(frame.depth[2:]).tolist() == [np.float32(1.234)]
    np.testing.assert_allclose(frame.world_from_cam[:3, 3], (2, 2, 3))
    assert first.frames[3].pose is None
    np.testing.assert_allclose(frame.intrinsics, [[25, 0, 16], [0, 26, 12], [0, 0, 1]])


@pytest.mark.parametrize(
    ("turns", "world_from_cam"),
    [  # columns: right, down and forward of the camera in a world whose z is up
        (0, [[1, 0, 0], [0, 0, 1], [0, -1, 0]]),
        (1, [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
        (2, [[-1, 0, 0], [0, 0, 1], [0, 1, 0]]),
        (3, [[0, -1, 0], [0, 0, 1], [-1, 0, 0]]),
    ],
)
def test_arkitscenes_lie_upright(tmp_path, turns, world_from_cam):
    video = tmp_path / "raw" / "Training" / "1"
    lines = []
    for index in range(3):
        name = f"1_{index}.000"
        save_picture(video / "lowres_wide" / f"{name}.png", index, (24, 32))
        write(video / "lowres_wide_intrinsics" / f"{name}.pincam", "32 24 40 50 9.5 7.5")
        pose = np.eye(4)
        pose[:3, :3], pose[0, 3] = world_from_cam, index
        stored = np.linalg.inv(pose)
        vector = Rotation.from_matrix(stored[:3, :3]).as_rotvec()
        lines.append(" ".join(map(str, (float(index), *vector, *stored[:3, 3]))))
        depth = np.full((24, 32), 1000, np.uint16)
        depth[2, 5] = 2000
        Image.fromarray(depth).save(made(video / "lowres_depth" / f"{name}.png"))
    write(video / "lowres_wide.traj", "\n".join(lines))
    scenes, _ = listed(tmp_path, "arkitscenes")
    scene = scenes["raw/Training/1"]
    assert {frame.turns for frame in scene.frames} == {turns}
    stored = read_source_frame(replace(scene.frames[1], turns=0))
    found = read_source_frame(scene.frames[1])
    assert found.pixels.shape[:2] == ((24, 32) if turns % 2 == 0 else (32, 24))
    assert found.world_from_cam is not None and found.depth is not None
    assert found.intrinsics is not None and stored.intrinsics is not None
    np.testing.assert_allclose(found.world_from_cam[:3, 1], (0, 0, -1), atol=1e-9)  # down
    # The far point, seen at one pixel, lies at one place in the world, however the image is turned.
    places = []
    for source in (stored, found):
        assert source.depth is not None and source.intrinsics is not None
        ((row, column),) = np.argwhere(source.depth == 2)
        ray = np.linalg.inv(source.intrinsics) @ (column + 0.5, row + 0.5, 1)
        places.append((source.world_from_cam @ (*(2 * ray), 1))[:3])
    np.testing.assert_allclose(places[1], places[0], atol=1e-6)


@pytest.mark.parametrize(("rate", "stride"), [(60, 27), (30, 27), (10, 27)])
def test_arkitscenes_strides_go_by_the_rate_of_the_images(tmp_path, rate, stride):
    video = tmp_path / "raw" / "Training" / "1"
    for index in range(4):
        name = f"1_{index / rate:.3f}"
        save_picture(video / "lowres_wide" / f"{name}.png", index)
        write(video / "lowres_wide_intrinsics" / f"{name}.pincam", "32 24 40 50 9.5 7.5")
    (dataset,) = scan(tmp_path)
    (scene,) = (item for item in dataset.list_scenes() if isinstance(item, Scene))
    policy = dataset.policy_of(scene)
    assert stride_of(4000, policy, 20) == stride
    # Ten images of 60 a second are a sixth of a second, as are five of 30.
    assert stride_of(100, policy, 2) == (10 if rate == 60 else 5)
    assert stride_of(100_000, policy, 20) == (60 if rate == 60 else 30)


def _video(folder, video):
    for index in range(2):
        name = f"{video}_{index}.500"
        save_picture(folder / "lowres_wide" / f"{name}.png", index)
        write(folder / "lowres_wide_intrinsics" / f"{name}.pincam", "32 24 9 9 15.5 11.5")


@pytest.mark.parametrize(
    ("root", "table"),
    [
        ("ark", "ark/3dod/3dod_train_val_splits.csv"),
        ("ark/3dod", "ark/raw/raw_train_val_splits.csv"),
        ("ark/3dod/Validation", "ark/3dod_train_val_splits.csv"),
        ("ark/3dod/Validation/42", "ark/3dod/3dod_train_val_splits.csv"),
    ],
)
def test_videos_of_one_visit_are_one_place_wherever_the_list_is(tmp_path, root, table):
    for video in ("42", "43"):
        _video(tmp_path / "ark" / "3dod" / "Validation" / video / f"{video}_frames", video)
    write(tmp_path / table, "video_id,visit_id,fold\n42,7,Validation\n43,7,Validation\n")
    scenes, _ = listed(tmp_path / root, "arkitscenes")
    assert len(scenes) == (1 if root.endswith("42") else 2)
    assert {scene.place for scene in scenes.values()} == {"visit 7"}


def test_folders_above_the_root_do_not_split_arkitscenes(tmp_path):
    root = tmp_path / "Training" / "mine"
    _video(root / "raw" / "Validation" / "42", "42")
    _video(root / "43", "43")
    scenes, _ = listed(root, "arkitscenes")
    assert {name: (scene.split, scene.is_test) for name, scene in scenes.items()} == {
        "raw/Validation/42": ("val", True),
        "43": (None, True),
    }
