"""A scene that is written as RGB-D comes back."""

import numpy as np
import torch
from PIL import Image

from distill3r_core.io.images.depth import read_depth
from distill3r_core.io.rgbd import write_rgbd_scene
from distill3r_core.scenes import render_scene


def test_a_written_scene_comes_back_to_half_a_step(tmp_path):
    scene = render_scene(2, 2, (14, 21))
    pictures = write_rgbd_scene(
        tmp_path / "room", scene.images, scene.depth, scene.world_from_cam, scene.intrinsics[0]
    )
    assert [path.name for path in pictures] == ["000000.png", "000001.png"]
    with Image.open(pictures[1]) as picture:
        pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0) / 255
    torch.testing.assert_close(pixels, scene.images[1], rtol=0, atol=0.5 / 255 + 1e-6)
    depth = read_depth(tmp_path / "room/depth/000001.png", stored="png16mm")
    torch.testing.assert_close(torch.from_numpy(depth), scene.depth[1], rtol=0, atol=0.5e-3 + 1e-6)
    pose = np.loadtxt(tmp_path / "room/pose/000001.txt").astype(np.float32)
    assert np.array_equal(pose, scene.world_from_cam[1].numpy())
    intrinsics = np.loadtxt(tmp_path / "room/intrinsics.txt").astype(np.float32)
    assert np.array_equal(intrinsics, scene.intrinsics[0].numpy())
