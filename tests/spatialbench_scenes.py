"""Fabricated scenes of SpatialBench."""

import json

import numpy as np
from PIL import Image
from trees import save_picture

SIZE = (48, 64)
FRAMES = 3


def write_scene(folder, *, depth=2.0):
    """A plane before cameras that turn."""
    for index in range(FRAMES):
        save_picture(folder / "images" / f"{index}.png", index, SIZE)
        codes = np.full(SIZE, 1000 * depth + 10 * index, np.uint16)
        codes[: SIZE[0] // 2] += 300
        (folder / "depths").mkdir(exist_ok=True)
        Image.fromarray(codes).save(folder / "depths" / f"{index}.png")
        angle, pose = 0.1 * index, np.eye(4, dtype=np.float32)
        pose[:3, :3] = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        pose[:3, 3] = (0.2 * index, 0.1 * index**2, 0.0)
        (folder / "poses").mkdir(exist_ok=True)
        np.save(folder / "poses" / f"{index}.npy", pose)
    (folder / "intrinsics").mkdir()
    K = np.array([[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]], dtype=np.float32)
    np.save(folder / "intrinsics" / "intrinsic.npy", K)
    meta = {"depth_format": "uint16_png_div1000", "intrinsic_mode": "shared"}
    (folder / "meta.json").write_text(json.dumps(meta))
