"""Readers of poses and cameras that other programs wrote, with a valid example of each."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzzing.targets import Target, plain_json
from trees import save_picture

from distill3r_core.data.frame_reader import read_source_frame
from distill3r_core.data.known_poses import best_matches, read_known_poses, with_known_poses
from distill3r_core.data.layouts import Refused, Scene, scan
from distill3r_core.data.listing import list_dataset
from distill3r_core.errors import Distill3rError, ImageError
from distill3r_core.io.exports.cameras import Camera, write_cameras
from distill3r_core.reconstruction.cameras.camera_options import parse_intrinsics

SIZE = (24, 32)
_K = (30.0, 31.0, 16.0, 12.0)


def pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        save_picture(folder / name, number, SIZE)


def read_layout(name: str) -> Callable[[Path], None]:
    """List a folder and read its frames; what the layout refuses by name is raised at the end."""

    def read(folder: Path) -> None:
        first: Distill3rError | None = None
        for found in scan(folder, name)[0].list_scenes():
            if isinstance(found, Refused):
                first = first or ImageError(found.reason)
            for frame in found.frames if isinstance(found, Scene) else ():
                try:
                    read_source_frame(frame)
                except Distill3rError as error:
                    first = first or error
        if first is not None:
            raise first

    return read


def _read_poses(name: str) -> Callable[[Path], None]:
    """What `manifest --poses FILE` reads, given to the images beside it."""

    def read(folder: Path) -> None:
        known = read_known_poses(folder / name)
        listing = list_dataset(scan(folder / "images", "images")[0])
        best = best_matches(((scene.scene_id, scene.frames) for scene in listing.scenes), known)
        listing, _ = with_known_poses(listing, known, best)
        for frame in listing.scenes[0].frames:
            read_source_frame(frame)

    return read


def _make_text_model(folder: Path) -> None:
    pictures(folder / "images", "a.png", "b c.png")
    (folder / "sparse").mkdir()
    (folder / "sparse/cameras.txt").write_text(
        "# cameras\n1 PINHOLE 32 24 30 31 16 12\n2 OPENCV 32 24 30 31 16 12 0.1 0 0 0\n"
    )
    (folder / "sparse/images.txt").write_text(
        "# images\n1 1 0 0 0 0.5 0 0 1 a.png\n1 2 -1 3 4 7\n2 0.5 0.5 0.5 0.5 1 0 0 2 b c.png\n\n"
    )


def _make_binary_model(folder: Path) -> None:
    pictures(folder / "images", "a.png", "b.png")
    place = folder / "sparse/0"
    place.mkdir(parents=True)
    cameras = struct.pack("<QIiQQ4d", 2, 1, 1, 32, 24, *_K)
    cameras += struct.pack("<IiQQ4d", 2, 2, 32, 24, 30.0, 16.0, 12.0, 0.1)
    images = struct.pack("<Q", 2)
    for number, name in ((1, b"a.png"), (2, b"b.png")):
        images += struct.pack("<I7dI", number, 1, 0, 0, 0, 0.5 * number, 0, 0, number)
        images += name + b"\0" + struct.pack("<QddQ", 1, 3.0, 4.0, 7)
    (place / "cameras.bin").write_bytes(cameras)
    (place / "images.bin").write_bytes(images)


def _make_stereolunar(folder: Path) -> None:
    scene = folder / "part/moon"
    k = np.array([[38, 0, 16], [0, 38, 12], [0, 0, 1]], np.float32)
    for number in range(2):
        save_picture(scene / f"im_{number:05d}.jpg", number, SIZE)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, 3] = 1.77e6, 0.125 * number, -1.77e6
        save = np.savez_compressed if number else np.savez
        save(scene / f"im_{number:05d}.npz", intrinsics=k, cam2world=pose)


def _make_record3d(folder: Path) -> None:
    images = folder / "rgbd"
    pictures(images, "0.jpg", "1.jpg")
    for number in range(2):
        (images / f"{number}.depth").write_bytes(np.full((6, 8), 1.5, "<f4").tobytes())
        (images / f"{number}.conf").write_bytes(bytes([2] * 48))
    content = {
        "w": 32, "h": 24, "dw": 8, "dh": 6, "K": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1],
        "poses": [[0, 0, 0.6, 0.8, number, 2, 3] for number in range(2)],
        "perFrameIntrinsicCoeffs": [[30, 31, 15.5, 11.5]],
    }  # fmt: skip
    (folder / "metadata").write_text(json.dumps(content))


def _make_export(folder: Path) -> None:
    pictures(folder / "rgb", "0.jpg", "1.jpg")
    content = {
        "w": 32, "h": 24, "K": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1],
        "poses": [[0, 0, 0, 1, number, 2, 3] for number in range(2)],
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(content))


_TRAJECTORY = "# stamp tx ty tz qx qy qz qw\n1.00 0 0 0 0 0 0 1\n1.04,1,2,3,0,0,0.6,0.8\n"


def _make_tum(folder: Path) -> None:
    pictures(folder / "rgb", "1.00.png", "1.02.png")
    (folder / "rgb.txt").write_text("# stamp file\n1.00 rgb/1.00.png\n1.02 rgb/1.02.png\n")
    (folder / "groundtruth.txt").write_text(_TRAJECTORY)
    (folder / "intrinsics.txt").write_text("30 0 16\n0 31 12\n0 0 1\n")


def _make_trajectory(folder: Path) -> None:
    pictures(folder / "images", "1.00.png", "1.02.png")
    (folder / "poses.txt").write_text(_TRAJECTORY)


def _make_cameras(folder: Path) -> None:
    pictures(folder / "images", "a.png", "b.png")
    k = np.array([[30.0, 0, 16], [0, 31, 12], [0, 0, 1]])
    cameras = [Camera(f"{name}.png", SIZE, k, {"source": "x"}, np.eye(4)) for name in "ab"]
    write_cameras(folder / "cameras.json", cameras, about={"frame": "x", "unit": "m"})


def _make_intrinsics(folder: Path) -> None:
    (folder / "four.txt").write_text("585, 586, 320, 240\n")
    (folder / "nine.txt").write_text("585 0 320\n0 585 240\n0 0 1\n")


def _read_intrinsics(folder: Path) -> None:
    parse_intrinsics(str(folder / "four.txt"))
    parse_intrinsics(str(folder / "nine.txt"))


RECORDINGS = {
    "COLMAP text": Target(
        _make_text_model, read_layout("colmap"), ("sparse/cameras.txt", "sparse/images.txt")
    ),
    "COLMAP binary": Target(
        _make_binary_model, read_layout("colmap"), ("sparse/0/cameras.bin", "sparse/0/images.bin")
    ),
    "COLMAP poses": Target(
        _make_binary_model, _read_poses("sparse/0"), ("sparse/0/cameras.bin", "sparse/0/images.bin")
    ),
    "StereoLunar": Target(
        _make_stereolunar,
        read_layout("stereolunar"),
        ("part/moon/im_00000.npz", "part/moon/im_00001.npz"),
    ),
    "Record3D": Target(
        _make_record3d,
        read_layout("record3d"),
        ("metadata", "rgbd/0.depth", "rgbd/1.conf"),
        {"metadata": plain_json},
    ),
    "Record3D export": Target(
        _make_export, read_layout("record3d"), ("metadata.json",), {"metadata.json": plain_json}
    ),
    "TUM": Target(
        _make_tum, read_layout("tum"), ("rgb.txt", "groundtruth.txt", "intrinsics.txt")
    ),
    "trajectory": Target(_make_trajectory, _read_poses("poses.txt"), ("poses.txt",)),
    "cameras.json": Target(
        _make_cameras, _read_poses("cameras.json"), ("cameras.json",), {"cameras.json": plain_json}
    ),
    "K": Target(_make_intrinsics, _read_intrinsics, ("four.txt", "nine.txt")),
}  # fmt: skip
