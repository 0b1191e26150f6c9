"""The papers' data sets as tiny trees, each with the trap of the real one (DATASETS.md 13).

Images are 32x24 where the layout does not ask for more; their color tells the frame. Depth is 1.5
in the unit of the data set's depth where nothing else is said.
"""

import gzip
import json
from pathlib import Path

import numpy as np
from layout_files import made, matrix_text, write
from PIL import Image
from trees import SIZE, save_depth, save_picture

UPRIGHT = "1.5707963267948966 0 0"  # camera-from-world of a level camera, as a rotation vector
_SMALL = (12, 16)  # half the size


def write_json(path: Path, content) -> None:
    write(path, json.dumps(content))


def write_mvsnet_camera(path: Path, x: float, k, depths: str = "425 2.5") -> None:
    """A camera of MVSNet at (x, 0, 0); K has pixel centers at integers."""
    pose = np.eye(4)
    pose[0, 3] = -x
    write(path, f"extrinsic\n{matrix_text(pose)}\nintrinsic\n{matrix_text(k)}\n{depths}\n")


def write_pfm(path: Path, depth: float, size: tuple[int, int]) -> None:
    rows = np.full(size, depth, "<f4")
    made(path).write_bytes(f"Pf\n{size[1]} {size[0]}\n-1\n".encode() + rows.tobytes())


def write_co3d(root: Path) -> Path:
    """Turns of 25 and 3 frames, numbers from 1 without 2; a sequence without annotations."""
    frames = [
        *(("110_1_1", number, "ndc_isotropic") for number in (1, *range(3, 27))),
        *(("189_2_2", number, "ndc_norm_image_bounds") for number in (1, 3, 4)),
    ]
    listed = []
    for sequence, number, ndc in frames:
        folder, stem = root / "apple" / sequence, f"frame{number:06d}"
        save_picture(folder / "images" / f"{stem}.jpg", number)
        bits = np.full(SIZE, 1.5, np.float16).view(np.uint16)
        Image.fromarray(bits).save(made(folder / "depths" / f"{stem}.jpg.geometric.png"))
        for kind in ("masks", "depth_masks"):
            mask = np.full(SIZE, 255, np.uint8)
            mask[0] = 0
            Image.fromarray(mask).save(made(folder / kind / f"{stem}.png"))
        viewpoint = {
            "R": [[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]],
            "T": [1.0, 2.0, 3.0],
            "focal_length": [2.0, 2.5],
            "principal_point": [0.25, -0.5],
            "intrinsics_format": ndc,
        }
        listed.append(
            {
                "sequence_name": sequence,
                "frame_number": len(listed),
                "image": {"path": f"apple/{sequence}/images/{stem}.jpg", "size": list(SIZE)},
                "depth": {"path": "unread", "scale_adjustment": 1.0},
                "viewpoint": viewpoint,
            }
        )
    for number in (1, 2, 3):
        folder = root / "skateboard" / "1_1_1" / "images"
        save_picture(folder / f"frame{number:06d}.jpg", number)
    for category, content in (("apple", listed), ("skateboard", [])):
        for kind, items in (("frame", content), ("sequence", [])):
            with gzip.open(root / category / f"{kind}_annotations.jgz", "wt") as file:
                json.dump(items, file)
    train = [[sequence, number, "unread"] for sequence, number, _ in frames]
    write_json(root / "apple" / "set_lists" / "set_lists_fewview_dev.json", {"train": train})
    return root


def write_scannetpp(root: Path) -> Path:
    """A scene of 22 fisheye images and one that also has them undistorted; gives `data`."""
    fisheye, undistorted = root / "data" / "0a0a0a0a0a" / "dslr", root / "data/0b0b0b0b0b/dslr"
    for dslr, count in ((fisheye, 22), (undistorted, 4)):
        names = [f"DSC{9989 + frame:05d}.JPG" for frame in range(count)]
        poses = []
        for frame, name in reversed(list(enumerate(names))):
            save_picture(dslr / "resized_images" / name, frame)
            poses.append(f"{frame + 1} 1 0 0 0 {-frame} 0 0 1 {name}\n\n")
        write(dslr / "colmap" / "cameras.txt", "1 OPENCV_FISHEYE 32 24 9 9 16 12 0 0 0 0\n")
        write(dslr / "colmap" / "images.txt", "".join(poses))
        frames = [
            {"file_path": name, "is_bad": dslr == undistorted and name == names[1]}
            for name in names
        ]
        transforms = {"fl_x": 9, "fl_y": 9, "cx": 16, "cy": 12, "w": 32, "h": 24, "frames": frames}
        write_json(dslr / "nerfstudio" / "transforms.json", {**transforms, "test_frames": []})
        write_json(dslr / "train_test_lists.json", {"train": names[:-1], "test": names[-1:]})
        if dslr == undistorted:
            pinhole = {**transforms, "fl_x": 20, "fl_y": 21}
            write_json(dslr / "nerfstudio" / "transforms_undistorted.json", pinhole)
            for frame, name in enumerate(names):
                save_picture(dslr / "resized_undistorted_images" / name, frame)
                save_depth(dslr / "undistorted_depths" / f"{Path(name).stem}.png", size=_SMALL)
    write(root / "splits" / "nvs_sem_train.txt", "0a0a0a0a0a\n")
    write(root / "splits" / "nvs_sem_val.txt", "0b0b0b0b0b\n")
    return root / "data"


def write_habitat(root: Path, *, with_depth: bool) -> Path:
    """One batch of views, of which the third is missing."""
    folder = root / "hm3d" / "val" / "00800-X"
    for view in (1, 2, 4, 5):
        stem = f"00000000_{view}"
        save_picture(folder / f"{stem}.jpeg", view)
        camera = {
            "camera_intrinsics": [[30, 0, 16], [0, 31, 12], [0, 0, 1]],
            "R_cam2world": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
            "t_cam2world": [view, 0, 0],
        }
        write_json(folder / f"{stem}_camera_params.json", camera)
        if with_depth:
            import OpenEXR

            head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            depth = np.full(SIZE, 1.5, np.float16)
            OpenEXR.File(head, {"Y": depth}).write(str(folder / f"{stem}_depth.exr"))
    write(root / "Habitat_24_scenes_train.txt", "hm3d/val/00800-X/00000000\n")
    return root


def write_matterport(root: Path) -> Path:
    """Four positions of 18 images on a line, named out of its order; each turned 60 degrees on."""
    house = root / "1pXnuDYAj8r"
    places = {"d": 0.0, "a": 1.0, "c": 2.0, "b": 3.0}
    for index, (uuid, x) in enumerate(places.items()):
        for camera in range(3):
            for yaw in range(6):
                image = house / "matterport_color_images" / f"{uuid}_i{camera}_{yaw}.jpg"
                save_picture(image, 18 * index + 6 * camera + yaw)
                depth = house / "matterport_depth_images" / f"{uuid}_d{camera}_{yaw}.png"
                save_depth(depth, 6000)  # of 0.25 mm
                cosine, sine = np.cos(np.pi / 3 * (yaw + index)), np.sin(np.pi / 3 * (yaw + index))
                pose = [[cosine, 0, sine, x], [0, 1, 0, 0], [-sine, 0, cosine, 0], [0, 0, 0, 1]]
                name = f"{uuid}_pose_{camera}_{yaw}.txt"
                write(house / "matterport_camera_poses" / name, matrix_text(pose))
            name = f"{uuid}_intrinsics_{camera}.txt"
            k = "32 24 20 21 15.5 11.5 0 0 0 0 0\n"
            write(house / "matterport_camera_intrinsics" / name, k)
    return root


def write_megadepth(root: Path) -> Path:
    """Two parts of a scene; the model of the first knows three images of three sizes."""
    place = root / "0000"
    for frame, (name, size) in enumerate(
        (("a.jpg", (24, 32)), ("b.JPG", (48, 64)), ("c.png", (32, 24)))
    ):
        save_picture(place / "dense0" / "imgs" / name, frame, size)
    for frame, name in enumerate(("e.jpg", "d.jpg")):
        save_picture(place / "dense1" / "imgs" / name, frame)
    model = place / "sparse" / "manhattan" / "0"
    write(
        model / "cameras.txt",
        "1 SIMPLE_RADIAL 64 48 80 32 24 0\n"  # twice as large as a.jpg
        "2 SIMPLE_RADIAL 64 48 70 32 24 0\n"
        "3 SIMPLE_RADIAL 24 32 40 12 16 0\n",
    )
    write(  # c sees three points, a two of them, b one
        model / "images.txt",
        "1 1 0 0 0 -1 0 0 1 a.jpg\n1 1 1 2 2 2\n"
        "2 1 0 0 0 -2 0 0 2 b.JPG\n1 1 3 2 2 4\n"
        "3 1 0 0 0 -3 0 0 3 c.png\n1 1 1 2 2 2 3 3 3\n",
    )
    write(model / "points3D.txt", "")
    return root


def write_blendedmvs(root: Path) -> Path:
    """Four images with their masked copies; the depth range of the cameras begins at 0."""
    scene = root / "5a3ca9cb270f0e3f14d0eddb"
    for view in range(4):
        for name in (f"{view:08d}.jpg", f"{view:08d}_masked.jpg"):
            save_picture(scene / "blended_images" / name, view)
        k = ((40, 0, 15.5), (0, 41, 11.5), (0, 0, 1))
        write_mvsnet_camera(scene / "cams" / f"{view:08d}_cam.txt", view, k, "0 0.1 128 12.8")
        write_pfm(scene / "rendered_depth_maps" / f"{view:08d}.pfm", 1.5, SIZE)
    write(scene / "cams" / "pair.txt", "4\n0\n1 1 0.5\n1\n1 0 0.5\n2\n0\n3\n0\n")
    write(root / "BlendedMVS_training.txt", f"{scene.name}\n")
    return root


def write_arkitscenes(root: Path) -> Path:
    """A video whose stamps cross 1000 s, and one for validation; each camera goes along x."""
    stamps = (998.9, 999.5, 999.999, 1000.003, 1000.6, 1001.2)
    for side, name, times in (
        ("Training", "41048190", stamps),
        ("Validation", "42000000", stamps[:2]),
    ):
        video, poses = root / "raw" / side / name, []
        for frame, stamp in enumerate(times):
            save_picture(video / "vga_wide" / f"{name}_{stamp:.3f}.png", frame)
            off = 0.001 if frame == 1 else 0
            camera = video / "vga_wide_intrinsics" / f"{name}_{stamp + off:.3f}.pincam"
            write(camera, "64 48 60 62 31.5 23.5")
            save_depth(video / "lowres_depth" / f"{name}_{stamp + 0.001:.3f}.png", size=_SMALL)
            poses.append(f"{stamp:.3f} {UPRIGHT} {-frame} 0 0\n")
        write(video / "lowres_wide.traj", "".join(poses))
    visits = "video_id,visit_id,fold\n41048190,1,Training\n42000000,2,Validation\n"
    write(root / "raw" / "raw_train_val_splits.csv", visits)
    return root


def write_12scenes(root: Path) -> Path:
    """Six frames of two sequences; of the fifth frame tracking was lost."""
    room = root / "apt1" / "kitchen"
    for frame in range(6):
        stem = f"frame-{frame:06d}"
        save_picture(room / "data" / f"{stem}.color.jpg", frame)
        save_depth(room / "data" / f"{stem}.depth.png", size=_SMALL)
        pose = np.eye(4)
        pose[0, 3] = np.inf if frame == 4 else frame
        text = matrix_text(pose).replace("inf", "-1.#INF")
        write(room / "data" / f"{stem}.pose.txt", text)
    write(
        room / "info.txt",
        "m_versionNumber = 4\nm_colorWidth = 64\nm_colorHeight = 48\n"
        "m_depthWidth = 32\nm_depthHeight = 24\nm_depthShift = 1000\n"
        "m_calibrationDepthIntrinsic = 9 0 0 0 0 9 0 0 0 0 1 0 0 0 0 1\n"
        "m_calibrationColorIntrinsic = 60 0 31.5 0 0 62 23.5 0 0 0 1 0 0 0 0 1\n",
    )
    parts = "sequence0 [frames=3] [start=0 ; end=2]\nsequence1 [frames=3] [start=3 ; end=5]\n"
    write(room / "split.txt", parts)
    return root


_DTU_K = ((2892.0, 0, 822.5), (0, 2883.0, 618.5), (0, 0, 1))  # of 1600x1200 pixels


def write_dtu_training(root: Path) -> Path:
    """Three views by two lights, a sixteenth as large; images from 1, cameras and depth from 0."""
    scan = "scan1_train"
    for view in (1, 2, 3):
        for light in (0, 3):
            image = root / "Rectified" / scan / f"rect_{view:03d}_{light}_r5000.png"
            save_picture(image, view, (32, 40))
        camera = f"{view - 1:08d}_cam.txt"
        write_mvsnet_camera(root / "Cameras" / camera, view, _DTU_K)
        small = ((361.5, 0, 82.5), (0, 360.4, 66), (0, 0, 1))
        write_mvsnet_camera(root / "Cameras" / "train" / camera, view, small)
        write_pfm(root / "Depths" / scan / f"depth_map_{view - 1:04d}.pfm", 500, (8, 10))
    write(root / "Cameras" / "pair.txt", "0\n")
    return root


def write_dtu_test(root: Path) -> Path:
    """Three views with the mask of an object, a twentieth as large."""
    scan = root / "scan1"
    for view in range(3):
        name = f"{view:08d}"
        save_picture(scan / "images" / f"{name}.jpg", view, (60, 80))
        k = ((2892.0, 0, 799.5), (0, 2883.0, 599.5), (0, 0, 1))
        write_mvsnet_camera(scan / "cams" / f"{name}_cam.txt", view, k)
        np.save(made(scan / "depths" / f"{name}.npy"), np.full((60, 80), 700, np.float32))
        mask = np.zeros((60, 80), np.uint8)
        mask[:, 40:] = 255
        Image.fromarray(mask).save(made(scan / "binary_masks" / f"{name}.png"))
    write(scan / "pair.txt", "3\n0\n1 1 1.0\n1\n1 0 1.0\n2\n1 0 1.0\n")
    return root
