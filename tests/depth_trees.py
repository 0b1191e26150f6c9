"""A tiny tree of every layout that carries depth, without its parts that have none.

Depth is 1.5 m (DTU: 0.5 m), or 1.5 where there is no unit; all writers take an empty folder.
"""

import shutil
from pathlib import Path

import numpy as np
import published_trees as published
import pytest
import recorded_trees as recorded
from layout_files import made, write
from trees import SIZE, chess, rgbd_scene, save_depth, save_picture, save_pose


def write_co3d(root: Path) -> None:
    published.write_co3d(root)
    shutil.rmtree(root / "skateboard")


def write_scannetpp(root: Path) -> None:
    shutil.rmtree(published.write_scannetpp(root) / "0a0a0a0a0a")  # fisheye images


def write_habitat(root: Path) -> None:
    pytest.importorskip("OpenEXR", reason="extra datasets")
    published.write_habitat(root, with_depth=True)


def write_h5(path: Path, size: tuple[int, int] = SIZE) -> None:
    h5py = pytest.importorskip("h5py", reason="extra datasets")
    with h5py.File(made(path), "w") as file:
        file["depth"] = np.full(size, 1.5, np.float32)


def write_megadepth(root: Path) -> None:
    published.write_megadepth(root)
    shutil.rmtree(root / "0000" / "dense1")
    for name, size in (("a", (24, 32)), ("b", (48, 64)), ("c", (32, 24))):
        write_h5(root / "0000" / "dense0" / "depths" / f"{name}.h5", size)


def write_model(folder: Path, names: tuple[str, ...]) -> None:
    """A model of COLMAP whose images stand 1 unit apart along x."""
    write(folder / "cameras.txt", "1 PINHOLE 32 24 30 30 16 12\n")
    lines = [f"{n + 1} 1 0 0 0 {-n} 0 0 1 {name}\n\n" for n, name in enumerate(names)]
    write(folder / "images.txt", "".join(lines))


def write_undistorted(root: Path) -> None:
    names = ("a.jpg", "b.jpg", "c.jpg")
    for number, name in enumerate(names):
        save_picture(root / "Undistorted_SfM" / "0001" / "images" / name, number)
        write_h5(root / "depth_undistorted" / "0001" / f"{name[0]}.h5")
    write_model(root / "Undistorted_SfM" / "0001" / "sparse", names)


def write_colmap(root: Path) -> None:
    names = ("a.png", "s/b.png", "c.png")
    for number, name in enumerate(names):
        save_picture(root / "images" / name, number)
        path = made(root / "stereo" / "depth_maps" / f"{name}.geometric.bin")
        path.write_bytes(b"32&24&1&" + np.full(SIZE, 1.5, "<f4").tobytes())
    write_model(root / "sparse", names)


def write_stereolunar(root: Path) -> None:
    exr = pytest.importorskip("OpenEXR", reason="extra datasets")
    scene = root / "nadir_clean_0_90" / "moon_scene_0000"
    k = np.array([[30, 0, 16], [0, 30, 12], [0, 0, 1]], np.float32)
    for number in range(2):
        save_picture(scene / f"im_{number:05d}.jpg", number)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = 1.77e6, number, 0
        np.savez(scene / f"im_{number:05d}.npz", intrinsics=k, cam2world=pose)
        head = {"compression": exr.PIZ_COMPRESSION, "type": exr.scanlineimage}
        depth = np.full(SIZE, 1.5, np.float16)
        exr.File(head, {"Y": depth}).write(str(scene / f"im_{number:05d}.exr"))


def write_nerfstudio(root: Path) -> None:
    recorded.write_nerfstudio(root)
    shutil.rmtree(root / "b")


def write_record3d(root: Path) -> None:
    recorded.write_record3d(root)
    shutil.rmtree(root / "b")


def write_pattern(root: Path) -> None:
    for number in range(3):
        save_picture(root / "lab" / "color" / f"{number}.png", number)
        save_depth(root / "lab" / "depth" / f"{number}.png")
        save_pose(root / "lab" / "pose" / f"{number}.txt", number)
    write(root / "lab" / "k.txt", "30 0 16\n0 30 12\n0 0 1\n")
    write(
        root / "data.yaml",
        f"- {{name: mine, root: {root}, pattern: '*/color/*.png', depth: '*/depth/*.png', "
        "poses: '*/pose/*.txt', intrinsics: '*/k.txt'}\n",
    )


# By the name of the layout: a writer, and depths of its samples' views, in order.
DEPTH_TREES = {
    "12scenes": (published.write_12scenes, (1.5, 1.5)),
    "7scenes": (chess, (1.5, 1.5)),
    "arkitscenes": (published.write_arkitscenes, (1.5, 1.5)),
    "blendedmvs": (published.write_blendedmvs, (1.5,)),
    "co3d": (write_co3d, (1.5, 1.5)),
    "colmap": (write_colmap, (1.5,)),
    "dtu": (published.write_dtu_training, (0.5, 0.5)),
    "habitat": (write_habitat, (1.5,)),
    "matterport": (published.write_matterport, (1.5,) * 18),
    "megadepth": (write_megadepth, (1.5,)),
    "megadepth-undistorted": (write_undistorted, (1.5,)),
    "nerfstudio": (write_nerfstudio, (1.5,)),
    "open3d": (recorded.write_open3d, (1.5,)),
    "pattern": (write_pattern, (1.5,)),
    "polycam": (lambda root: recorded.write_polycam(root, corrected=True), (1.5,)),
    "record3d": (write_record3d, (1.5,)),
    "rgbd": (lambda root: rgbd_scene(root / "room", 3), (1.001,)),
    "scannet": (lambda root: recorded.write_scannet(root / "scene0000_00"), (1.5,)),
    "scannetpp": (write_scannetpp, (1.5,)),
    "stereolunar": (write_stereolunar, (1.5,)),
    "strayscanner": (recorded.write_strayscanner, (1.5,)),
    "tum": (lambda root: recorded.write_tum(root / "rgbd_dataset_freiburg1_x"), (1.5,)),
}
