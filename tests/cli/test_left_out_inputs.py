"""Files of a folder that are no photographs are left out by name and with the reason."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from input_patterns import make_manifest, pattern
from PIL import Image
from trees import rejected


@pytest.fixture
def trials(data_dir) -> Path:
    return data_dir / "trials"


def test_a_black_image_is_left_out_by_name_before_the_pass(cli_inprocess, project, trials) -> None:
    folder = trials / "13_blank/mixed"
    status, report, _ = run_infer(cli_inprocess, folder, "-o", "out", cwd=project)
    assert status == 5 and report["result"]["views"] == 3
    (failure,) = report["failed"]
    assert Path(failure["item"]).name == "002.png" and failure["reason"].startswith("blank")
    listed = json.loads((project / "out/run.json").read_text())["left_out"]
    assert listed == [failure]
    make_manifest(cli_inprocess, project, folder, status=5)
    assert set(rejected(project / "data")) == {"002.png"}


def test_other_blank_images_are_left_out_and_dull_ones_stay(cli_inprocess, project) -> None:
    folder = make_photos(project / "photos", "good.png", "other.png")
    random = np.random.default_rng(0)
    for name, level in (("white", 255), ("gray", 119), ("cap", 3)):
        noise = random.normal(0, 2 if name == "cap" else 0, (240, 320, 3))
        pixels = np.clip(level + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    wall = np.linspace(120, 140, 320)[None, :, None] + np.zeros((240, 320, 3))
    Image.fromarray(wall.astype(np.uint8)).save(folder / "wall.png")
    night = np.zeros((240, 320, 3), np.uint8)
    night[100:130, 100:140] = 90
    Image.fromarray(night).save(folder / "night.png")
    status, report, _ = run_infer(cli_inprocess, folder, cwd=project)
    assert status == 5 and report["result"]["views"] == 4
    named = {Path(failure["item"]).name for failure in report["failed"]}
    assert named == {"white.jpg", "gray.jpg", "cap.jpg"}


def test_blank_frames_of_a_video_are_left_out_by_number(cli_inprocess, project) -> None:
    av = pytest.importorskip("av")
    with av.open(str(project / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for number in range(5):
            pixels = np.zeros_like(pattern()) if number < 2 else pattern()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    status, report, _ = run_infer(cli_inprocess, "clip.mp4", "--fps", "10", cwd=project)
    assert status == 5 and report["result"]["views"] == 3
    named = [failure["item"] for failure in report["failed"]]
    assert named == ["clip.mp4, frame 0", "clip.mp4, frame 1"]


def test_depth_maps_beside_photographs_are_never_photographs(
    cli_inprocess, project, trials
) -> None:
    root = trials / "17_siblings/scannet"
    manifest, err = make_manifest(cli_inprocess, project, root)
    assert len(manifest.rows) == 24
    assert {row.scene_id for row in manifest.rows} == {"scene0000_00"}
    assert all(row.depth_path and row.pose for row in manifest.rows)
    assert "has the layout scannet" in err
    (project / "data").rename(project / "as-scannet")
    manifest, err = make_manifest(cli_inprocess, project, root, "--layout", "images")
    assert len(manifest.rows) == 24
    assert {row.scene_id for row in manifest.rows} == {"scene0000_00/color"}
    assert "not read: 24 files: a depth map, no photograph" in err
    assert "no layout that is known" in err
    listed = [path for path, reason in rows_of_rejected(project / "data") if "depth" in reason]
    assert len(listed) == 24 and all("/depth/" in path for path in listed)
    for arguments in ((root,), (root / "scene0000_00",), (root / "scene0000_00", "--each")):
        status, report, _ = run_infer(cli_inprocess, *arguments, cwd=project)
        assert status == 0 and not report["failed"]


@pytest.mark.parametrize(
    ("trial", "views"),
    [
        ("06_suffixes/rgbd", 4),
        ("09_depth_unit/correct", 24),
        ("09_depth_unit/tum5000", 24),
        ("11_pose_convention/w2c", 24),
        ("12_intrinsics/K_of_full", 24),
    ],
)
def test_an_rgbd_recording_is_reconstructed_from_its_photographs_alone(
    cli_inprocess, project, trials, trial, views
) -> None:
    status, report, _ = run_infer(cli_inprocess, trials / trial, "-o", "out", cwd=project)
    assert status == 0 and report["result"]["views"] == views and not report["failed"]
    assert len(list((trials / trial / "room/rgb").iterdir())) == views
    listed = json.loads((project / "out/run.json").read_text())["left_out"]
    depth = [item for item in listed if item["reason"] == "a depth map, no photograph"]
    assert len(depth) == len(list((trials / trial / "room/depth").iterdir()))


def rows_of_rejected(folder: Path) -> list[tuple[str, str]]:
    with (folder / "rejected.csv").open(newline="") as file:
        return [(line["path"], line["reason"]) for line in csv.DictReader(file)]


def test_siblings_are_told_by_name_and_content(cli_inprocess, project) -> None:
    scene = project / "scene"
    names = [f"{number:03d}.png" for number in range(4)]
    make_photos(scene / "images", *names, size=(160, 96))
    for divisor in (2, 4):
        make_photos(scene / f"images_{divisor}", *names, size=(160 // divisor, 96 // divisor))
    make_photos(scene / "thumbs", *names, size=(40, 24))
    make_photos(scene / "depth_colored", *names, size=(160, 96))
    kinds = (("disparity", np.uint8), ("sensor", np.uint16), ("masks", np.uint8))
    for folder, kind in (*kinds, ("depth_masks", np.uint8), ("confidence", np.uint8)):
        (scene / folder).mkdir()
        for name in names:
            values = np.random.default_rng(0).integers(1, 255, (96, 160)).astype(kind)
            Image.fromarray(values).save(scene / folder / name)
    Image.fromarray(np.eye(96, dtype=np.uint8)).save(scene / "masks/other.png")
    make_photos(scene / "walk_2", *names, size=(160, 96))  # another scene, whatever its name
    manifest, err = make_manifest(cli_inprocess, project, "scene")
    assert {row.scene_id for row in manifest.rows} == {"images", "walk_2"}
    reasons = dict(rows_of_rejected(project / "data"))
    by_folder = {Path(path).parent.name: reason for path, reason in reasons.items()}
    assert {name for name, reason in by_folder.items() if "depth" in reason} == {
        "depth_colored", "disparity", "sensor",
    }  # fmt: skip
    assert {name for name, reason in by_folder.items() if "smaller" in reason} == {
        "images_2", "images_4", "thumbs",
    }  # fmt: skip
    assert by_folder["confidence"] == "a map of labels, normals or confidence, no photograph"
    assert reasons[str(scene / "masks/other.png")] == "a mask, but there is no image of its name"
    assert sum("masks/" in path for path in reasons) == 1 + 4  # all of depth_masks
    assert all(row.mask_path for row in manifest.rows if row.scene_id == "images")
    assert "not read: 12 files: a depth map, no photograph" in err
    shutil.rmtree(scene / "walk_2")
    status, report, err = run_infer(cli_inprocess, scene, "-o", "out", cwd=project)
    assert status == 0 and report["result"]["views"] == 4
    listed = json.loads((project / "out/run.json").read_text())["left_out"]
    assert len(listed) == 8 + 4 + 12 + 4 + 4 + 1
    assert f"the images are those of {scene / 'images'}" in err


def test_a_named_folder_is_read_whatever_it_is_called(cli_inprocess, project) -> None:
    make_photos(project / "scene/images", "a.png", "b.png", size=(160, 96))
    make_photos(project / "scene/images_2", "a.png", "b.png", size=(80, 48))
    status, report, _ = run_infer(cli_inprocess, project / "scene/images_2", cwd=project)
    assert status == 0 and report["result"]["views"] == 2
    manifest, _ = make_manifest(cli_inprocess, project, "scene/images_2")
    assert {(row.H, row.W) for row in manifest.rows} == {(48, 80)}


def test_16_bit_gray_beside_color_in_one_folder_is_no_photograph(cli_inprocess, project) -> None:
    folder = make_photos(project / "frames", "rgb_1.png", "rgb_2.png")
    for number in (1, 2):
        values = np.full((48, 64), 1000 * number, np.uint16)
        Image.fromarray(values).save(folder / f"d{number}.png")
    status, report, _ = run_infer(cli_inprocess, folder, cwd=project)
    assert status == 0 and report["result"]["views"] == 2
    assert (
        "not read: 2 files: a depth map"
        in run_infer(cli_inprocess, folder, cwd=project, json_too=False)[2]
    )
    manifest, _ = make_manifest(cli_inprocess, project, "frames")
    assert {Path(row.image_path).stem for row in manifest.rows} == {"rgb_1", "rgb_2"}


@pytest.mark.parametrize(
    ("photo", "part", "reason"),
    [
        ("rgb_{}.jpg", "depth_{}.png", "a depth map"),
        ("{}.jpg", "depth{}.png", "a depth map"),
        ("frame{}.png", "disparity.{}.png", "a depth map"),
        ("{}_color.jpg", "{}_depth_map.png", "a depth map"),
        ("image-{}.jpg", "{}.confidence.png", "a map of labels"),
        ("{}.jpg", "normals_{}.png", "a map of labels"),
    ],
)
def test_maps_beside_photographs_are_told_by_their_names_before_or_behind_the_number(
    cli_inprocess, project, photo, part, reason
) -> None:
    """Of eight bits, as viewers write them: their content does not tell them from photographs."""
    folder = project / "frames"
    make_photos(folder, *(photo.format(f"{number:04d}") for number in range(1, 4)))
    make_photos(folder, *(part.format(f"{number:04d}") for number in range(1, 4)))
    make_photos(folder, "depth of field.jpg", "Mask_of_Zorro_2.jpg", "label 7.jpg")
    status, report, _ = run_infer(cli_inprocess, folder, "-o", "out", cwd=project)
    assert status == 0 and report["result"]["views"] == 6
    listed = json.loads((project / "out/run.json").read_text())["left_out"]
    assert len(listed) == 3 and all(item["reason"].startswith(reason) for item in listed)
    manifest, _ = make_manifest(cli_inprocess, project, folder)
    assert len(manifest.rows) == 6


@pytest.mark.parametrize(
    ("photo", "other", "reason"),
    [
        ("IMG_{}.jpg", "conf_{}.jpg", "a map of labels"),
        ("{}.jpg", "confidence-{}.jpg", "a map of labels"),
        ("{}.jpg", "disp{}.jpg", "a depth map"),
        ("{}.jpg", "semantic_{}.jpg", "a map of labels"),
    ],
)
def test_words_before_a_number_that_photographs_have_too_are_of_maps_where_there_is_no_color(
    cli_inprocess, project, photo, other, reason
) -> None:
    folder = make_photos(project / "trip", photo.format("0001"), photo.format("0002"))
    make_photos(folder, other.format("0001"))  # a conference, a display
    gray = np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)
    Image.fromarray(gray).save(folder / other.format("0002"))
    status, report, _ = run_infer(cli_inprocess, folder, "-o", "out", cwd=project)
    assert status == 0 and report["result"]["views"] == 3
    (listed,) = json.loads((project / "out/run.json").read_text())["left_out"]
    assert Path(listed["item"]).name == other.format("0002")
    assert listed["reason"].startswith(reason)
    manifest, _ = make_manifest(cli_inprocess, project, folder)
    assert len(manifest.rows) == 3


@pytest.mark.parametrize("names", [("rgb.png", "depth.png"), ("Image.JPG", "confidence.png")])
def test_one_photograph_with_its_map_is_one_view(cli_inprocess, project, names) -> None:
    folder = make_photos(project / "scan", *names)
    status, report, _ = run_infer(cli_inprocess, folder, cwd=project)
    assert status == 0 and report["result"]["views"] == 1
    alone = make_photos(project / "art", "depth.png", "mask.png")  # of nothing: photographs
    status, report, _ = run_infer(cli_inprocess, alone, cwd=project)
    assert status == 0 and report["result"]["views"] == 2


def test_a_7scenes_folder_has_no_failures(cli_inprocess, project, data_dir) -> None:
    sequence = next(path for path in data_dir.rglob("7scenes_kitchen/**/seq-*") if path.is_dir())
    for folder in (data_dir / "7scenes_kitchen", sequence):
        arguments = (folder, "--max-views", "3", "-o", "out", "--overwrite")
        status, _, err = run_infer(cli_inprocess, *arguments, cwd=project, json_too=False)
        assert status == 0, err
        assert "a depth map, no photograph" in err and "left out:" not in err
    listed = json.loads((project / "out/run.json").read_text())["left_out"]
    assert sum(item["reason"] == "a depth map, no photograph" for item in listed) == len(
        list(sequence.glob("*.depth.png"))
    )


def test_videos_of_live_photos_are_left_out_and_said(cli_inprocess, project, trials) -> None:
    pytest.importorskip("av")
    folder = trials / "22_live_photos/trip"
    manifest, err = make_manifest(cli_inprocess, project, folder)
    stems = {Path(row.image_path).stem for row in manifest.rows}
    assert stems == {f"IMG_{number:04d}" for number in range(100, 112)}
    assert {row.scene_id for row in manifest.rows} == {"trip"}
    assert "not read: 12 files: the video of a live photo" in err
    assert len(rows_of_rejected(project / "data")) == 12
    status, report, _ = run_infer(cli_inprocess, folder, "-o", "out", cwd=project)
    assert status == 0 and report["result"]["views"] == 12 and not report["failed"]
    listed = json.loads((project / "out/run.json").read_text())["left_out"]
    assert {Path(item["item"]).suffix for item in listed} == {".MOV"} and len(listed) == 12


def test_other_live_photos_and_a_video_of_its_own(cli_inprocess, project, data_dir) -> None:
    pytest.importorskip("av")
    folder = make_photos(project / "trip", "img_1.JPG", "IMG_2.webp")
    clip = data_dir / "video/kitchen.mp4"
    for name in ("IMG_1.mp4", "IMG_2.MOV", "tour.mp4"):
        shutil.copy(clip, folder / name)
    manifest, err = make_manifest(cli_inprocess, project, "trip")
    assert {row.scene_id for row in manifest.rows} == {"trip", "tour.mp4"}
    assert "not read: 2 files: the video of a live photo" in err


def test_raw_files_and_files_without_a_suffix_are_named(cli_inprocess, project) -> None:
    folder = make_photos(project / "photos", "a.jpg", "b.jpg")
    for name in ("a.NEF", "c.CR3", "d.CR3", "notes.txt"):
        (folder / name).write_bytes(b"raw")
    (folder / "b.jpg").rename(folder / "copy")
    make_photos(folder, "b.jpg")
    _, err = make_manifest(cli_inprocess, project, "photos", status=5)
    assert "photos/a.NEF: a raw file beside the image of its name" in err
    assert "c.CR3: an image format that is not read" in err
    assert "an image by its content, but not by its name" in err
    assert "notes.txt: neither an image nor a video" in err
    listed = {"a.NEF", "c.CR3", "d.CR3", "copy", "notes.txt"}
    assert listed == set(rejected(project / "data"))


def test_many_files_of_one_reason_are_one_line(cli_inprocess, tmp_path) -> None:
    folder = make_photos(tmp_path / "photos", "a.jpg", "b.jpg")
    for number in range(30):
        Image.new("RGB", (40, 30)).save(folder / f"{number}.png")
    _, err = make_manifest(cli_inprocess, tmp_path, "photos", status=5)
    lines = [line for line in err.splitlines() if "blank" in line]
    assert len(lines) == 1 and "30 items" in lines[0]
    assert len(rejected(tmp_path / "data")) == 30


def test_a_line_of_pixels_is_refused_before_it_takes_all_memory(
    cli_inprocess, project, data_dir
) -> None:
    folder = data_dir / "hostile/pictures"
    status, report, _ = run_infer(cli_inprocess, folder, cwd=project)
    assert status == 5 and report["result"]["views"] == 2
    (failure,) = report["failed"]
    assert failure["reason"].startswith("too small: 178956969x1 pixels")
    make_manifest(cli_inprocess, project, folder, status=5)
    assert set(rejected(project / "data")) == {"thin.png"}


def test_photographs_beside_the_scenes_of_a_layout_are_counted_and_listed(
    cli_inprocess, project, data_dir
) -> None:
    sequence = next(path.parent for path in data_dir.glob("7scenes_kitchen/**/*.pose.txt"))
    shutil.copytree(sequence.parent, project / "mixed/kitchen")
    make_photos(project / "mixed/holiday", "one.jpg", "two.jpg")
    make_photos(project / "mixed", "overview.jpg")
    make_manifest(cli_inprocess, project, project / "mixed")
    listed = rejected(project / "data")
    assert set(listed) == {"one.jpg", "two.jpg", "overview.jpg"}
    assert all("in no scene of this layout" in reason for reason in listed.values())
