"""Readers of data sets in their layouts, and of depth files, with a valid example of each."""

import gzip
import json
from pathlib import Path

import numpy as np
from fuzzing.recordings import SIZE, pictures, read_layout
from fuzzing.targets import Sign, Target, plain_json
from trees import EYE, rgbd_scene, save_depth, save_picture, sevenscenes_sequence

from distill3r_core.data.layouts.split_files import read_split_files
from distill3r_core.errors import Distill3rError
from distill3r_core.files import read_own
from distill3r_core.io.images.depth_codecs import (
    read_colmap,
    read_exr,
    read_h5,
    read_npz,
    read_pfm,
)

_SET_LIST = "apple/set_lists/set_lists_fewview_dev.json"
_K = "30 0 16\n0 30 12\n0 0 1\n"
_EYE = np.eye(4).tolist()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_json(path: Path, values: object) -> None:
    _write(path, json.dumps(values))


def _make_nerfstudio(folder: Path) -> None:
    pictures(folder / "images", "0.png", "1.png")
    frames = [{"file_path": f"images/{n}.png", "transform_matrix": _EYE} for n in range(2)]
    camera = {"fl_x": 30.0, "fl_y": 31.0, "cx": 16.0, "cy": 12.0, "w": 32, "h": 24}
    _write_json(folder / "transforms.json", {**camera, "frames": frames})


def _make_polycam(folder: Path) -> None:
    frames = folder / "keyframes"
    for name in ("images", "cameras"):
        (frames / name).mkdir(parents=True)
    for number in range(2):
        save_picture(frames / f"corrected_images/{number}.jpg", number, SIZE)
        save_depth(frames / f"depth/{number}.png", size=(12, 16))
        camera = {
            f"t_{row}{column}": float(row == column) for row in range(3) for column in range(4)
        }
        camera |= {"fx": 30, "fy": 31, "cx": 16, "cy": 12, "width": 32, "height": 24}
        _write_json(frames / f"corrected_cameras/{number}.json", camera)


def _make_open3d(folder: Path) -> None:
    pictures(folder / "color", "000000.jpg", "000001.jpg")
    for number in range(2):
        save_depth(folder / f"depth/{number:06d}.png")
    camera = {"width": 32, "height": 24, "intrinsic_matrix": [30, 0, 0, 0, 31, 0, 15.5, 11.5, 1]}
    _write_json(folder / "camera_intrinsic.json", camera)


def _make_scannet(folder: Path) -> None:
    scene = folder / "scene0000_00"
    pictures(scene / "color", "1.jpg", "2.jpg")
    for number in (1, 2):
        save_depth(scene / f"depth/{number}.png", size=(12, 16))
        _write(scene / f"pose/{number}.txt", EYE)
    _write(scene / "intrinsic/intrinsic_color.txt", "30 0 16 0\n0 30 12 0\n0 0 1 0\n0 0 0 1\n")


def _make_sevenscenes(folder: Path) -> None:
    sevenscenes_sequence(folder / "chess/seq-01", 2)
    _write(folder / "chess/TrainSplit.txt", "sequence1\n")


def _read_sevenscenes(folder: Path) -> None:
    read_split_files(folder / "chess")
    read_layout("7scenes")(folder)


def _make_rgbd(folder: Path) -> None:
    rgbd_scene(folder / "room", 2)


def _make_twelvescenes(folder: Path) -> None:
    room = folder / "apt1/kitchen"
    for frame in range(2):
        save_picture(room / f"data/frame-{frame:06d}.color.jpg", frame, SIZE)
        save_depth(room / f"data/frame-{frame:06d}.depth.png", size=(12, 16))
        _write(room / f"data/frame-{frame:06d}.pose.txt", EYE)
    _write(
        room / "info.txt",
        "m_versionNumber = 4\nm_colorWidth = 32\nm_colorHeight = 24\n"
        "m_calibrationColorIntrinsic = 30 0 15.5 0 0 31 11.5 0 0 0 1 0 0 0 0 1\n",
    )
    _write(room / "split.txt", "sequence0 [frames=2] [start=0 ; end=1]\n")


def _make_co3d(folder: Path) -> None:
    images = folder / "apple/1_1_1/images"
    pictures(images, "frame000001.jpg", "frame000002.jpg")
    annotations = [
        {
            "sequence_name": "1_1_1",
            "frame_number": number,
            "image": {"path": f"apple/1_1_1/images/frame{number + 1:06d}.jpg", "size": [24, 32]},
            "viewpoint": {
                "R": np.eye(3).tolist(),
                "T": [1.0, 2.0, 3.0],
                "focal_length": [2.0, 2.5],
                "principal_point": [0.25, -0.5],
                "intrinsics_format": "ndc_isotropic",
            },
        }
        for number in range(2)
    ]
    _packed_json(folder / "apple/frame_annotations.jgz", annotations)
    frame = ["1_1_1", 0, "apple/1_1_1/images/frame000001.jpg"]
    _write_json(folder / _SET_LIST, {"train": [frame], "val": [], "test": []})


def _packed_json(path: Path, values: object) -> None:
    path.write_bytes(gzip.compress(json.dumps(values).encode(), mtime=0))


def _make_annotations(folder: Path) -> None:
    """The annotations of CO3D unpacked, to change what is in them."""
    _make_co3d(folder)
    packed = (folder / "apple/frame_annotations.jgz").read_bytes()
    (folder / "annotations.json").write_bytes(gzip.decompress(packed))


def _read_annotations(folder: Path) -> None:
    text = read_own(folder / "annotations.json")
    (folder / "apple/frame_annotations.jgz").write_bytes(gzip.compress(text, 1, mtime=0))
    read_layout("co3d")(folder)


def _make_arkitscenes(folder: Path) -> None:
    video = folder / "raw/Training/41"
    for number in range(2):
        save_picture(video / f"lowres_wide/41_{number}.500.png", number, SIZE)
        _write(video / f"lowres_wide_intrinsics/41_{number}.500.pincam", "32 24 30 30 15.5 11.5")
    _write(video / "lowres_wide.traj", "0.4 0 0 0 -1 -2 -3\n1.6 0 0 0 -3 -2 -3\n")
    _write(folder / "raw/raw_train_val_splits.csv", "video_id,visit_id,fold\n41,7,Training\n")


def _mvsnet(path: Path) -> None:
    _write(path, f"extrinsic\n{EYE}\nintrinsic\n{_K}\n0 0.1\n")


def _write_pfm(path: Path, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"Pf\n{depth.shape[1]} {depth.shape[0]}\n-1\n"
    path.write_bytes(head.encode() + depth.astype("<f4").tobytes())


def _make_blendedmvs(folder: Path) -> None:
    scene = folder / "5a3ca9cb270f0e3f14d0eddb"
    for view in range(2):
        save_picture(scene / f"blended_images/{view:08d}.jpg", view, SIZE)
        _mvsnet(scene / f"cams/{view:08d}_cam.txt")
        _write_pfm(scene / f"rendered_depth_maps/{view:08d}.pfm", np.ones(SIZE))


def _make_dtu(folder: Path) -> None:
    scene = folder / "scan1"
    for view in range(2):
        save_picture(scene / f"images/{view:08d}.jpg", view, SIZE)
        _mvsnet(scene / f"cams/{view:08d}_cam.txt")
        (scene / "depths").mkdir(exist_ok=True)
        np.save(scene / f"depths/{view:08d}.npy", np.full(SIZE, 700, np.float32))


def _make_habitat(folder: Path) -> None:
    place = folder / "hm3d/val/00800-X"
    for view in (1, 2):
        save_picture(place / f"00000000_{view}.jpeg", view, SIZE)
        camera = {
            "camera_intrinsics": [[30, 0, 16], [0, 30, 12], [0, 0, 1]],
            "R_cam2world": np.eye(3).tolist(),
            "t_cam2world": [view, 0, 0],
        }
        _write_json(place / f"00000000_{view}_camera_params.json", camera)


def _make_matterport(folder: Path) -> None:
    house = folder / "1pXnuDYAj8r"
    for uuid in "ab":
        save_picture(house / f"matterport_color_images/{uuid}_i0_0.jpg", ord(uuid), SIZE)
        _write(house / f"matterport_camera_poses/{uuid}_pose_0_0.txt", EYE)
        _write(
            house / f"matterport_camera_intrinsics/{uuid}_intrinsics_0.txt",
            "32 24 20 20 15.5 11.5 0 0 0 0 0\n",
        )


def _make_scannetpp(folder: Path) -> None:
    dslr = folder / "data/0b0b0b0b0b/dslr"
    for number in range(2):
        save_picture(dslr / f"resized_undistorted_images/D{number}.JPG", number, SIZE)
    _write(dslr / "colmap/cameras.txt", "1 OPENCV_FISHEYE 32 24 9 9 16 12 0 0 0 0\n")
    _write(
        dslr / "colmap/images.txt", "".join(f"{n} 1 0 0 0 {n} 0 0 1 D{n}.JPG\n\n" for n in (0, 1))
    )
    camera = {"fl_x": 20, "fl_y": 21, "cx": 16, "cy": 12, "w": 32, "h": 24, "frames": []}
    _write_json(dslr / "nerfstudio/transforms_undistorted.json", camera)
    listed = [{"file_path": "D0.JPG", "is_bad": False}]
    _write_json(dslr / "nerfstudio/transforms.json", {"frames": listed, "test_frames": []})
    _write(folder / "splits/nvs_sem_train.txt", "0b0b0b0b0b\n")


def _make_pattern(folder: Path) -> None:
    for number in range(2):
        save_picture(folder / f"captures/a/color/{number}.png", number, SIZE)
        save_depth(folder / f"captures/a/depth/{number}.png")
    _write(folder / "captures/a/poses.txt", "0 0 0 0 0 0 0 1\n1 1 0 0 0 0 0 1\n")
    _write(
        folder / "captures/a/camera.yaml",
        "image_height: 24\nimage_width: 32\n"
        "camera_matrix: {rows: 3, cols: 3, data: [30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]}\n"
        "distortion_coefficients: {rows: 1, cols: 5, data: [0.1, 0, 0, 0, 0]}\n",
    )
    _write(
        folder / "data.yaml",
        "- {name: mine, root: captures, pattern: '*/color/*.png', depth: '*/depth/*.png', "
        "poses: '*/poses.txt', intrinsics: '*/camera.yaml'}\n",
    )


def _read_pattern(folder: Path) -> None:
    read_layout("pattern")(folder / "data.yaml")


def _make_depth(folder: Path) -> None:
    import h5py
    import OpenEXR

    depth = np.linspace(1, 3, 24 * 32, dtype=np.float32).reshape(SIZE)
    _write_pfm(folder / "a.pfm", depth)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("depth", data=depth, compression="gzip")
    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(head, {"Y": depth}).write(str(folder / "a.exr"))
    np.savez_compressed(folder / "a.npz", depth=depth)
    (folder / "a.geometric.bin").write_bytes(b"32&24&1&" + depth.astype("<f4").tobytes())


_DEPTH_READERS = {
    "a.pfm": read_pfm,
    "a.h5": read_h5,
    "a.exr": read_exr,
    "a.npz": read_npz,
    "a.geometric.bin": read_colmap,
}


def _read_depth(folder: Path) -> None:
    first: Distill3rError | None = None
    for name, read in _DEPTH_READERS.items():
        try:
            read(folder / name)
        except Distill3rError as error:
            first = first or error
    if first is not None:
        raise first


_JSON: dict[str, Sign] = {
    "transforms.json": plain_json,
    "keyframes/corrected_cameras/0.json": plain_json,
    "camera_intrinsic.json": plain_json,
    "annotations.json": plain_json,
    _SET_LIST: plain_json,
    "hm3d/val/00800-X/00000000_1_camera_params.json": plain_json,
    "data/0b0b0b0b0b/dslr/nerfstudio/transforms_undistorted.json": plain_json,
    "data/0b0b0b0b0b/dslr/nerfstudio/transforms.json": plain_json,
}


def _target(name: str, make, *files: str, read=None) -> Target:
    signs = {file: sign for file, sign in _JSON.items() if file in files}
    return Target(make, read or read_layout(name), files, signs)


_DSLR = "data/0b0b0b0b0b/dslr"
LAYOUTS = {
    "nerfstudio": _target("nerfstudio", _make_nerfstudio, "transforms.json"),
    "polycam": _target("polycam", _make_polycam, "keyframes/corrected_cameras/0.json"),
    "open3d": _target("open3d", _make_open3d, "camera_intrinsic.json"),
    "scannet": _target(
        "scannet",
        _make_scannet,
        "scene0000_00/intrinsic/intrinsic_color.txt",
        "scene0000_00/pose/1.txt",
    ),
    "7scenes": _target(
        "7scenes",
        _make_sevenscenes,
        "chess/seq-01/frame-000000.pose.txt",
        "chess/TrainSplit.txt",
        read=_read_sevenscenes,
    ),
    "rgbd": _target("rgbd", _make_rgbd, "room/intrinsics.txt", "room/pose/000000.txt"),
    "12scenes": _target(
        "12scenes",
        _make_twelvescenes,
        *("apt1/kitchen/info.txt", "apt1/kitchen/split.txt"),
        "apt1/kitchen/data/frame-000000.pose.txt",
    ),
    "co3d": _target("co3d", _make_co3d, "apple/frame_annotations.jgz", _SET_LIST),
    "co3d annotations": _target(
        "co3d", _make_annotations, "annotations.json", read=_read_annotations
    ),
    "arkitscenes": _target(
        "arkitscenes",
        _make_arkitscenes,
        "raw/Training/41/lowres_wide_intrinsics/41_0.500.pincam",
        "raw/Training/41/lowres_wide.traj",
        "raw/raw_train_val_splits.csv",
    ),
    "blendedmvs": _target(
        "blendedmvs",
        _make_blendedmvs,
        "5a3ca9cb270f0e3f14d0eddb/cams/00000000_cam.txt",
        "5a3ca9cb270f0e3f14d0eddb/rendered_depth_maps/00000001.pfm",
    ),
    "dtu": _target("dtu", _make_dtu, "scan1/cams/00000000_cam.txt", "scan1/depths/00000001.npy"),
    "habitat": _target("habitat", _make_habitat, "hm3d/val/00800-X/00000000_1_camera_params.json"),
    "matterport": _target(
        "matterport",
        _make_matterport,
        "1pXnuDYAj8r/matterport_camera_poses/a_pose_0_0.txt",
        "1pXnuDYAj8r/matterport_camera_intrinsics/b_intrinsics_0.txt",
    ),
    "scannetpp": _target(
        "scannetpp",
        _make_scannetpp,
        *(f"{_DSLR}/colmap/images.txt", f"{_DSLR}/nerfstudio/transforms_undistorted.json"),
        *(f"{_DSLR}/nerfstudio/transforms.json", "splits/nvs_sem_train.txt"),
    ),
    "pattern": _target(
        "pattern",
        _make_pattern,
        "captures/a/camera.yaml",
        "captures/a/poses.txt",
        read=_read_pattern,
    ),
    "depth": Target(_make_depth, _read_depth, tuple(_DEPTH_READERS)),
}
