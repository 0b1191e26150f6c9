"""People's own recordings as tiny trees, each with its traps (DATASETS.md 14i).

Images are 32x24 where the layout does not ask for more; their color tells the frame. Depth is
1.5 m, or 1.5 where there is no unit.
"""

import json
import struct
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from layout_files import made, matrix_text, write
from PIL import Image
from trees import save_depth, save_picture, two_colors

_SMALL = (12, 16)  # half the size
# x to y, y to z, z to x, which no transposition and no other order of the quaternion gives.
CYCLE = ((0, 0, 1), (1, 0, 0), (0, 1, 0))
CYCLE_FROM_GL = ((0, 0, -1), (1, 0, 0), (0, -1, 0))  # the same, read with OpenGL's camera axes
_CYCLE_XYZW = (0.5, 0.5, 0.5, 0.5)

TUM_STAMPS = (999.98, 1000.0, 1000.04, 1000.08, 1000.11, 1000.15)


def write_tum(folder: Path) -> Path:
    """Six images, one more in their list, and five depth maps, the last of them 0.021 s late."""
    for frame, stamp in enumerate(TUM_STAMPS):
        save_picture(folder / "rgb" / f"{stamp:.6f}.png", frame)
    listed = reversed((*TUM_STAMPS, 1000.2))
    lines = [f"{stamp:.6f} rgb/{stamp:.6f}.png\n" for stamp in listed]
    write(folder / "rgb.txt", "".join(["# color images\n# timestamp filename\n", *lines]))
    lines = []
    for stamp in (*(stamp + 0.005 for stamp in TUM_STAMPS[:4]), TUM_STAMPS[5] + 0.021):
        save_depth(folder / "depth" / f"{stamp:.6f}.png", 7500)  # 5000 a meter
        lines.append(f"{stamp:.6f} depth/{stamp:.6f}.png\n")
    write(folder / "depth.txt", "".join(["# depth maps\n", *lines]))
    lines = [  # around each image; in its middle x is the frame's number
        f"{stamp + off:.6f} {frame + 25 * off} 0 0 0 0 0 1\n"
        for frame, stamp in enumerate(TUM_STAMPS)
        for off in (-0.005, 0.005)
    ]
    write(folder / "groundtruth.txt", "".join(["# timestamp tx ty tz qx qy qz qw\n", *lines]))
    write(folder / "accelerometer.txt", "# timestamp ax ay az\n1000.0 0 0 9.8\n")
    return folder


def write_scannet(folder: Path) -> Path:
    """Twelve frames; of the eighth tracking was lost; K is for larger images."""
    for number in range(12):
        save_picture(folder / "color" / f"{number}.jpg", number)
        save_depth(folder / "depth" / f"{number}.png", size=_SMALL)
        pose = np.eye(4)
        pose[0, 3] = -np.inf if number == 7 else number
        write(folder / "pose" / f"{number}.txt", matrix_text(pose))
    k = np.diag([1134.0, 1089.0, 1.0, 1.0])  # of 1296x968
    k[:2, 2] = 647.5, 483.5
    write(folder / "intrinsic" / "intrinsic_color.txt", matrix_text(k))
    write(folder / "intrinsic" / "intrinsic_depth.txt", matrix_text(np.diag([577, 578, 1, 1])))
    for name in ("extrinsic_color.txt", "extrinsic_depth.txt"):
        write(folder / "intrinsic" / name, matrix_text(np.eye(4)))
    return folder


def write_colmap(folder: Path) -> Path:
    """A model in text and in binary, which differ by a focal length, and a smaller one."""
    for frame, name in enumerate(("a b.jpg", "s/c.jpg", "d.jpg")):
        save_picture(folder / "images" / name, frame)
    model, half = folder / "sparse" / "0", 0.5**0.5
    write(
        model / "cameras.txt",
        "# Camera list\n1 SIMPLE_RADIAL 64 48 60 32 24 0.01\n"
        "2 OPENCV_FISHEYE 32 24 9 9 16 12 0 0 0 0\n",
    )
    write(
        model / "images.txt",
        f"# Image list\n1 {half} 0 0 {half} 1 2 3 1 a b.jpg\n\n2 1 0 0 0 0 0 0 2 s/c.jpg\n1 2 -1\n",
    )
    cameras = struct.pack("<Q", 2)
    cameras += struct.pack("<IiQQ4d", 1, 2, 64, 48, 80, 32, 24, 0.01)
    cameras += struct.pack("<IiQQ8d", 2, 5, 32, 24, 9, 9, 16, 12, 0, 0, 0, 0)
    images = struct.pack("<Q", 2)
    images += struct.pack("<I7dI", 1, half, 0, 0, half, 1, 2, 3, 1) + b"a b.jpg\0"
    images += struct.pack("<Q", 0)
    images += struct.pack("<I7dI", 2, 1, 0, 0, 0, 0, 0, 0, 2) + b"s/c.jpg\0"
    images += struct.pack("<QddQ", 1, 1, 2, 2**64 - 1)
    (model / "cameras.bin").write_bytes(cameras)
    (model / "images.bin").write_bytes(images)
    for name in ("rigs", "frames"):  # since COLMAP 3.12: poses of images hold without them
        write(model / f"{name}.txt", f"# {name}\n1 1 CAMERA 1 0\n")
        (model / f"{name}.bin").write_bytes(struct.pack("<QIIiI", 1, 1, 1, 0, 1))
    write(folder / "sparse" / "1" / "cameras.txt", "1 PINHOLE 32 24 9 9 16 12\n")
    write(folder / "sparse" / "1" / "images.txt", "1 1 0 0 0 0 0 0 1 d.jpg\n\n")
    return folder


def write_nerfstudio(root: Path) -> Path:
    """A scene with depth and K by frame, and one with an angle alone and names without suffix."""
    numbers = (10, 2, 9)
    full, plain = [], []
    for number in numbers:
        pose = np.eye(4)
        pose[:3, :3] = CYCLE
        pose[0, 3] = number
        save_picture(root / "a" / "images" / f"f_{number}.png", number)
        save_picture(root / "a" / "images_2" / f"f_{number}.png", number, (12, 16))
        save_depth(root / "a" / "depth" / f"f_{number}.png", size=_SMALL)
        frame = {
            "file_path": f"images/f_{number}.png",
            "depth_file_path": f"depth/f_{number}.png",
            "transform_matrix": pose.tolist(),
        }
        full.append({**frame, "cx": 15, "cy": 11})
        save_picture(root / "b" / "train" / f"r_{number}.png", number)
        plain.append({"file_path": f"./train/r_{number}", "transform_matrix": pose.tolist()})
    moved = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
    content = {"fl_x": 30, "applied_transform": moved, "frames": full}  # neither fl_y nor w and h
    write(root / "a" / "transforms.json", json.dumps(content))
    content = {"camera_angle_x": np.pi / 2, "frames": plain}
    write(root / "b" / "transforms.json", json.dumps(content))
    return root


POLYCAM_STAMPS = (99, 100, 1000, 1001)


def write_polycam(folder: Path, *, corrected: bool) -> Path:
    """Four key frames; the second has no camera of the images as they were taken."""
    place = folder / "keyframes"
    for frame, stamp in enumerate(POLYCAM_STAMPS):
        for kind, focal in (("", 60), ("corrected_", 64)):
            if kind and not corrected:
                continue
            save_picture(place / f"{kind}images" / f"{stamp}.jpg", frame)
            camera = {
                f"t_{row}{column}": value
                for row in range(3)
                for column, value in enumerate((*CYCLE[row], stamp if row == 0 else 0))
            }
            camera |= {"fx": focal, "fy": 62, "cx": 32, "cy": 24, "width": 64, "height": 48}
            if kind or stamp != 100:
                camera_file = place / f"{kind}cameras" / f"{stamp}.json"
                write(camera_file, json.dumps({**camera, "blur_score": 80}))
        save_depth(place / "depth" / f"{stamp}.png", size=_SMALL)
        confidence = np.full(_SMALL, 255, np.uint8)
        confidence[0] = 127
        Image.fromarray(confidence).save(made(place / "confidence" / f"{stamp}.png"))
    write(folder / "mesh_info.json", json.dumps({"alignmentTransform": [0] * 16}))
    return folder


def write_strayscanner(folder: Path) -> Path:
    """A video of 12 frames, 11 depth maps, and one pose more than frames."""
    av = pytest.importorskip("av", reason="extra video")
    with av.open(str(made(folder / "rgb.mp4")), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.time_base = Fraction(1, 60)
        for number in range(12):
            frame = av.VideoFrame.from_image(two_colors(5 * number, (48, 64)))
            frame.pts, frame.time_base = 2 * number, Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for number in range(11):
        save_depth(folder / "depth" / f"{number:06d}.png", size=_SMALL)
        confidence = np.full(_SMALL, 2, np.uint8)
        confidence[:6] = 1
        Image.fromarray(confidence).save(made(folder / "confidence" / f"{number:06d}.png"))
    pose = ", ".join(map(str, _CYCLE_XYZW))
    lines = [f"{100 + n / 30}, {n:06d}, {n}, 2, 3, {pose}\n" for n in range(13)]
    head = "timestamp, frame, x, y, z, qx, qy, qz, qw\n"
    write(folder / "odometry.csv", "".join([head, *lines]))
    write(folder / "camera_matrix.csv", "50.0, 0.0, 32.0\n0.0, 52.0, 24.0\n0.0, 0.0, 1.0\n")
    write(folder / "imu.csv", "timestamp, a_x, a_y, a_z\n")
    return folder


def write_record3d(root: Path) -> Path:
    """A packed recording of 4 frames with depth, and an export of 11 without; K is for half."""
    content = {"w": 32, "h": 24, "dw": 8, "dh": 6, "fps": 30}
    content |= {"K": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1], "initPose": [0, 0, 0, 1, 9, 9, 9]}
    for number in range(11):
        save_picture(root / "b" / "rgb" / f"{number}.jpg", number, (48, 64))
    poses = [[*_CYCLE_XYZW, number, 2, 3] for number in range(11)]
    write(root / "b" / "metadata.json", json.dumps({**content, "poses": poses}))
    depth = np.full((6, 8), 1.5, "<f4")
    depth[0] = np.nan
    with zipfile.ZipFile(root / "a.r3d", "w") as archive:
        archive.writestr("metadata", json.dumps({**content, "poses": poses[:4]}))
        for number in range(4):
            archive.write(root / "b" / "rgb" / f"{number}.jpg", f"rgbd/{number}.jpg")
            archive.writestr(f"rgbd/{number}.depth", depth.tobytes())
    return root


def write_open3d(root: Path) -> Path:
    """A recording, and one whose depth maps are pictures in color."""
    for scene in ("a", "b"):
        for number in range(3):
            save_picture(root / scene / "color" / f"{number:06d}.jpg", number)
            depth = root / scene / "depth" / f"{number:06d}.png"
            if scene == "a":
                save_depth(depth)
            else:
                save_picture(depth, number)
        content = {"width": 64, "height": 48}
        content |= {"intrinsic_matrix": [60, 0, 0, 0, 62, 0, 31.5, 23.5, 1]}  # column by column
        write(root / scene / "camera_intrinsic.json", json.dumps(content))
    return root
