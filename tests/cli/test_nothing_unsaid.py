"""What a command does not take of a folder, it says: how many files, why, and a list."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from input_patterns import make_manifest, pattern
from PIL import Image
from posed_rooms import write_room
from trees import rejected, rgbd_scene, sevenscenes_sequence


def write_video(path: Path, frames: int, *, rate: int = 10) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pattern(), format="rgb24")))
        container.mux(stream.encode())


def left_out(folder: Path) -> dict[str, str]:
    """Reason of each file that `infer` left out, by its last two parts."""
    listed = json.loads((folder / "run.json").read_text())["left_out"]
    return {"/".join(Path(item["item"]).parts[-2:]): item["reason"] for item in listed}


def test_a_pattern_takes_no_depth_maps_unless_it_names_their_folder(
    cli_inprocess, project, data_dir
) -> None:
    root = data_dir / "trials/17_siblings/scannet/scene0000_00"
    status, _, err = run_infer(
        cli_inprocess, f"{root}/*/*", "-o", "out", cwd=project, json_too=False
    )
    assert status == 0
    assert "24 files: a depth map, no photograph" in err
    maps = {name for name, reason in left_out(project / "out").items() if "depth map" in reason}
    assert len(maps) == 24 and all(name.startswith("depth/") for name in maps)
    status, report, _ = run_infer(cli_inprocess, f"{root}/color/*", cwd=project)
    assert status == 0 and report["result"]["views"] == 24


def test_pictures_below_the_photographs_are_counted_and_listed(cli_inprocess, project) -> None:
    make_photos(project / "trip", "a.jpg", "b.jpg")
    make_photos(project / "trip/day2", "c.jpg", "d.jpg", "e.jpg")
    status, _, err = run_infer(cli_inprocess, "trip", "-o", "out", cwd=project, json_too=False)
    assert status == 0
    assert "3 files: in a folder of its own" in err and "--each" in err
    assert set(left_out(project / "out")) == {"day2/c.jpg", "day2/d.jpg", "day2/e.jpg"}


def test_it_is_said_how_many_frames_of_a_video_are_taken(cli_inprocess, project) -> None:
    write_video(project / "clip.mp4", 20)
    status, report, err = run_infer(cli_inprocess, "clip.mp4", cwd=project)
    assert status == 0 and report["result"]["views"] == 4
    assert "4 of 20 frames taken, at most 2 a second" in err
    (project / "clips").mkdir()
    shutil.copy(project / "clip.mp4", project / "clips")
    found, _, err = cli_inprocess("manifest", "clips", "--views", "2", cwd=project)
    assert found == 0
    assert "4 of 20 frames taken, at most 2 a second" in err
    status, _, err = run_infer(cli_inprocess, "clip.mp4", "--fps", "10", cwd=project)
    assert status == 0 and "frames taken" not in err


def test_folders_that_are_no_scene_are_one_line_a_reason(cli_inprocess, project) -> None:
    for scene in "ab":
        make_photos(project / "scenes" / scene, "0.jpg", "1.jpg")
    for name in ("notes", "plans"):
        (project / "scenes" / name).mkdir()
        (project / "scenes" / name / "a.txt").write_text("a")
    status, _, err = run_infer(cli_inprocess, "scenes", "--each", cwd=project)
    assert status == 0
    assert "scenes/notes and 1 more folders: no pictures that can be read" in err


def test_what_lies_in_a_recording_but_is_of_no_frame_is_listed(cli_inprocess, project) -> None:
    rgbd_scene(project / "rooms/a", 3)
    make_photos(project / "rooms/a/more", "x.jpg")
    shutil.copy(project / "rooms/a/more/x.jpg", project / "rooms/a/depth/y.jpg")
    write_video(project / "rooms/a/rgb/tour.mp4", 2)
    write_video(project / "rooms/walk.mp4", 2)
    _, err = make_manifest(cli_inprocess, project, "rooms")
    listed = rejected(project / "data")
    assert set(listed) == {"x.jpg", "y.jpg", "tour.mp4", "walk.mp4"}
    assert listed["walk.mp4"].startswith("in no scene of this layout")
    assert listed["x.jpg"] == "in the folder of a scene, but of no frame of this layout"
    assert "3 files" in err


def test_what_lies_in_a_sequence_of_7_scenes_is_listed_too(cli_inprocess, project) -> None:
    sequence = sevenscenes_sequence(project / "chess/seq-01", 3)
    make_photos(sequence, "extra.jpg")
    write_video(sequence / "v.mp4", 2)
    make_manifest(cli_inprocess, project, "chess")
    assert set(rejected(project / "data")) == {"extra.jpg", "v.mp4"}


def test_images_that_no_camera_of_a_capture_names_are_listed(cli_inprocess, project) -> None:
    make_photos(project / "capture/images", "0.png", "1.png", "2.png")
    frames = [
        {"file_path": f"images/{n}.png", "transform_matrix": np.eye(4).tolist()} for n in (0, 1)
    ]
    camera = {"fl_x": 60.0, "fl_y": 60.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}
    (project / "capture/transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    make_manifest(cli_inprocess, project, "capture")
    assert set(rejected(project / "data")) == {"2.png"}


def test_masks_of_an_object_in_a_data_set_are_left_alone(cli_inprocess, project) -> None:
    sequence = project / "co3d/apple/1_1_1"
    make_photos(sequence / "images", "frame000001.jpg", "frame000002.jpg")
    (sequence / "masks").mkdir()
    half = np.zeros((48, 64), np.uint8)
    half[:, :32] = 255
    entries = []
    for number in (1, 2):
        Image.fromarray(half).save(sequence / f"masks/frame{number:06d}.png")
        camera = {"R": np.eye(3).tolist(), "T": [number, 0, 0], "focal_length": [2, 2]}
        camera |= {"principal_point": [0, 0], "intrinsics_format": "ndc_isotropic"}
        path = f"apple/1_1_1/images/frame{number:06d}.jpg"
        entries.append(
            {"sequence_name": "1_1_1", "frame_number": number - 1, "viewpoint": camera,
             "image": {"path": path, "size": [48, 64]}}
        )  # fmt: skip
    packed = gzip.compress(json.dumps(entries).encode())
    (project / "co3d/apple/frame_annotations.jgz").write_bytes(packed)
    manifest, err = make_manifest(cli_inprocess, project, "co3d")
    assert "has the layout co3d" in err
    assert [row.mask_path for row in manifest.rows] == ["", ""]


@pytest.mark.parametrize("layout", ["rgbd", "colmap"])
def test_masks_beside_the_images_of_any_recording_are_taken(cli_inprocess, project, layout) -> None:
    room = write_room(project / "room", views=4)
    images = room / "rgb"
    if layout == "colmap":
        images = images.rename(room / "images")
        shutil.rmtree(room / "depth"), shutil.rmtree(room / "pose")
        (room / "sparse").mkdir()
        (room / "sparse/cameras.txt").write_text("1 PINHOLE 98 70 80 80 49 35\n")
        (room / "sparse/points3D.txt").write_text("")
        (room / "sparse/images.txt").write_text(
            "".join(
                f"{n + 1} 1 0 0 0 {n / 10} 0 0 1 {path.name}\n\n"
                for n, path in enumerate(sorted(images.iterdir()))
            )
        )
    (room / "masks").mkdir()
    half = np.zeros((70, 98), np.uint8)
    half[:, :49] = 255
    for path in images.iterdir():
        Image.fromarray(half).save(room / "masks" / path.name)
    manifest, err = make_manifest(cli_inprocess, project, "room")
    assert f"has the layout {layout}" in err
    assert len(manifest.rows) == 4
    for row in manifest.rows:
        mask = np.asarray(Image.open(manifest.root / row.mask_path))
        assert mask[:, :49].all() and not mask[:, 49:].any()
    assert not (project / "data/rejected.csv").exists() or not rejected(project / "data")
