"""Depth that layouts find beside their images, in each kind of file that their data sets have."""

import json

import numpy as np
import pytest
from layout_files import QUARTER, listed, made, names, write
from PIL import Image
from trees import save_depth, save_picture

from distill3r_core.data.frame_reader import read_source_frame, read_stored_depth
from distill3r_core.data.layouts.records import Refused

K = [[30, 0, 16], [0, 30, 12], [0, 0, 1]]
DEPTH = np.arange(24 * 32, dtype=np.float32).reshape(24, 32) / 4  # quarters are exact in half, too
DEPTH[0, 1:4] = (np.nan, np.inf, -1)
VALID = np.where(np.isfinite(DEPTH) & (DEPTH > 0), DEPTH, 0)


def write_exr(path, depth, *, packing="ZIP_COMPRESSION", channel="Y"):
    exr = pytest.importorskip("OpenEXR", reason="extra datasets")
    head = {"compression": getattr(exr, packing), "type": exr.scanlineimage}
    exr.File(head, {channel: depth}).write(str(made(path)))


def test_habitat_has_depth_in_exr(tmp_path):
    folder = tmp_path / "hm3d" / "val" / "00800-X"
    for view in (1, 2):
        save_picture(folder / f"00000000_{view}.jpeg", view)
        camera = {
            "camera_intrinsics": K,
            "R_cam2world": QUARTER[:3, :3].tolist(),
            "t_cam2world": [view, 0, 0],
        }
        write(folder / f"00000000_{view}_camera_params.json", json.dumps(camera))
    write_exr(folder / "00000000_1_depth.exr", DEPTH.astype(np.float16))
    scenes, _ = listed(tmp_path, "habitat")
    (scene,) = scenes.values()
    first, second = (read_source_frame(frame) for frame in scene.frames)
    np.testing.assert_array_equal(first.depth, VALID)
    assert (first.unit, second.depth) == ("m", None)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_an_export_of_record3d_has_depth_in_exr(tmp_path, kind):
    folder = tmp_path / "walk"
    for number in (9, 10):
        save_picture(folder / "rgb" / f"{number}.jpg", number, (48, 64))
        write_exr(folder / "depth" / f"{number}.exr", (DEPTH + number).astype(kind), channel="R")
    content = {"w": 32, "h": 24, "dw": 32, "dh": 24, "fps": 30, "K": np.transpose(K).tolist()}
    content["K"] = np.ravel(content["K"]).tolist()
    write(folder / "metadata.json", json.dumps({**content, "poses": [[0, 0, 0, 1, 1, 2, 3]] * 11}))
    scenes, _ = listed(tmp_path, "record3d")
    (scene,) = scenes.values()
    assert names(scene) == ["000009", "000010"]
    depth = read_source_frame(scene.frames[1]).depth
    # Each pixel stands for four of the image, which is twice as large.
    wanted = np.where(np.isfinite(DEPTH + 10), DEPTH + 10, 0)
    np.testing.assert_array_equal(depth, np.kron(wanted, np.ones((2, 2))))


def test_stereolunar_has_half_floats_packed_by_piz(tmp_path):
    scene = tmp_path / "nadir_clean_0_90" / "moon_scene_0000"
    far = np.where(VALID > 0, 26_000 + 64 * np.floor(VALID), 0)  # half floats step by 16 or 32 m
    for number in range(2):
        save_picture(scene / f"im_{number:05d}.jpg", number)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = 1.77e6, 0.125 * number, 0
        np.savez(scene / f"im_{number:05d}.npz", intrinsics=np.array(K, np.float32), cam2world=pose)
        write_exr(scene / f"im_{number:05d}.exr", far.astype(np.float16), packing="PIZ_COMPRESSION")
    scenes, _ = listed(tmp_path, "stereolunar")
    (pair,) = scenes.values()
    for frame in pair.frames:
        depth = read_source_frame(frame).depth
        np.testing.assert_array_equal(depth, far.astype(np.float16))
        assert depth.max() > 36_000


def write_workspace(folder, *, camera="1 PINHOLE 32 24 30 30 16 12"):
    """An undistorted workspace of COLMAP after its stereo, which has left out one image."""
    write(folder / "sparse" / "cameras.txt", f"{camera}\n")
    lines = []
    for number, name in enumerate(("a.png", "s/b.png", "c.png")):
        save_picture(folder / "images" / name, number)
        lines.append(f"{number + 1} 1 0 0 0 {-number} 0 0 1 {name}\n\n")
    write(folder / "sparse" / "images.txt", "".join(lines))
    for name in ("a.png", "s/b.png"):
        path = made(folder / "stereo" / "depth_maps" / f"{name}.geometric.bin")
        path.write_bytes(b"32&24&1&" + DEPTH.astype("<f4").tobytes())
        path.with_name(path.name.replace("geometric", "photometric")).write_bytes(b"")


def test_a_workspace_of_colmap_has_depth_where_its_stereo_has_made_it(tmp_path):
    write_workspace(tmp_path / "w")
    scenes, rest = listed(tmp_path, "colmap")
    assert rest == []
    frames = {frame.name: read_source_frame(frame) for frame in scenes["w"].frames}
    assert set(frames) == {"a", "s_b", "c"}
    for name in ("a", "s_b"):
        np.testing.assert_array_equal(frames[name].depth, VALID)
    assert frames["c"].depth is None and frames["c"].world_from_cam is not None
    assert {frame.unit for frame in frames.values()} == {"none"}


def test_depth_of_colmap_is_not_that_of_distorted_images(tmp_path):
    write_workspace(tmp_path / "w", camera="1 SIMPLE_RADIAL 32 24 30 16 12 0.01")
    scenes, _ = listed(tmp_path, "colmap")
    assert [frame.depth for frame in scenes["w"].frames] == [None] * 3
    # A model of another folder is that of other images.
    write_workspace(tmp_path / "v")
    (tmp_path / "v" / "dense").mkdir()
    (tmp_path / "v" / "sparse").rename(tmp_path / "v" / "dense" / "sparse")
    scenes, _ = listed(tmp_path / "v", "colmap")
    assert [frame.depth for frame in scenes["v"].frames] == [None] * 3


@pytest.mark.parametrize(("kind", "unit"), [(np.uint16, 1000.0), (np.float32, 1.0)])
def test_a_pattern_takes_depth_in_npz(tmp_path, kind, unit):
    stored = np.full((24, 32), 1500 / 1000 * unit, kind)
    for number in range(2):
        save_picture(tmp_path / f"color/{number}.png", number)
        np.savez_compressed(made(tmp_path / f"depth/{number}.npz"), depth=stored, other=stored[0])
    write(
        tmp_path / "data.yaml",
        f"- {{name: mine, root: {tmp_path}, pattern: 'color/*.png', depth: 'depth/*.npz'}}\n",
    )
    scenes, rest = listed(tmp_path / "data.yaml", "pattern")
    assert rest == []
    (scene,) = scenes.values()
    for frame in scene.frames:
        assert (frame.depth.codec, frame.depth.scale) == ("npz", unit)
        assert np.unique(read_stored_depth(frame.depth)).tolist() == [1.5]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_recording_of_open3d_whose_depth_is_for_the_eye_is_refused(tmp_path, mode):
    for scene in ("shown", "whole"):
        for number in range(2):
            save_picture(tmp_path / scene / "color" / f"{number:06d}.jpg", number)
            save_depth(tmp_path / scene / "depth" / f"{number:06d}.png", 1500 + number)
        camera = {"width": 32, "height": 24, "intrinsic_matrix": np.transpose(K).ravel().tolist()}
        write(tmp_path / scene / "camera_intrinsic.json", json.dumps(camera))
    for path in (tmp_path / "shown" / "depth").iterdir():
        Image.effect_noise((32, 24), 50).convert(mode).save(path)
    scenes, rest = listed(tmp_path, "open3d")
    assert list(scenes) == ["whole"]
    (refused,) = [item for item in rest if isinstance(item, Refused)]
    assert refused.path == tmp_path / "shown" / "depth"
    assert "realsense_recorder.py" in refused.reason and "layout pattern" in refused.reason
    assert names(refused.images) == ["000000", "000001"]  # the images alone can be used
