"""What people have in their folders: every kind of file is read, or left out with the reason."""

import csv
import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from PIL import Image
from plyfile import PlyData
from trees import rejected, rgbd_scene, sevenscenes_sequence

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import Manifest, read_manifest
from distill3r_core.data.manifest_views import read_view

# Upright, the pattern is red, green / blue, yellow.
QUADRANTS = ((220, 40, 40), (40, 200, 40), (40, 60, 220), (230, 220, 60))
GRID = 28 * 42  # pixels of a view of the tests' student


@pytest.fixture
def trials(data_dir) -> Path:
    return data_dir / "trials"


def quadrants(pixels: np.ndarray) -> np.ndarray:
    """Colors in the middle of the four quarters, row by row."""
    height, width, _ = pixels.shape
    rows, columns = (height // 4, 3 * height // 4), (width // 4, 3 * width // 4)
    return np.array([pixels[row, column] for row in rows for column in columns], int)


def pattern(turned: int = 0) -> np.ndarray:
    """The pattern at 48x80, as it is stored for an EXIF orientation."""
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:24, :40], pixels[:24, 40:], pixels[24:, :40], pixels[24:, 40:] = QUADRANTS
    stored = {
        2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1), 7: pixels[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(pixels, -1),
    }  # fmt: skip
    return np.ascontiguousarray(stored.get(turned, pixels))


def make_manifest(cli_inprocess, cwd: Path, *roots: Path | str, status: int = 0, views: int = 2):
    """The manifest of some roots, in which every frame is kept, and what was printed beside it."""
    arguments = ("--views", str(views), "--stride", "1", "--val-scenes", "0")
    more = ("--samples-per-scene", "99", "--set", "video_fps=100")
    found, _, err = cli_inprocess("manifest", *roots, *arguments, *more, cwd=cwd)
    assert found == status, err
    return read_manifest(cwd / "data/manifest.csv"), err


def pixels_of(manifest: Manifest) -> dict[str, np.ndarray]:
    """Images of a manifest by `scene/frame`."""
    return {
        f"{row.scene_id}/{Path(row.image_path).stem}": np.asarray(
            Image.open(manifest.root / row.image_path)
        )
        for row in manifest.rows
    }


def test_every_orientation_of_every_format_stands_upright(cli_inprocess, tmp_path, trials) -> None:
    pytest.importorskip("pillow_heif")
    truth = json.loads((trials / "03_tiff_orientation/truth.json").read_text())
    manifest, _ = make_manifest(
        cli_inprocess, tmp_path, trials / "03_tiff_orientation/photos", views=24
    )
    found = {Path(row.image_path).stem: row for row in manifest.rows}
    assert len(found) == len(truth) == 48
    for name, size in truth.items():
        row = found[Path(name).stem]
        assert size == [row.H, row.W], name
        colors = quadrants(np.asarray(Image.open(manifest.root / row.image_path)))
        if tuple(size) == (96, 160):
            assert np.abs(colors - QUADRANTS).max() < 12, name


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_other_tiffs_are_turned_once(cli_inprocess, tmp_path, compression) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for tag in range(1, 9):
        image = Image.fromarray(pattern(tag))
        image.save(folder / f"{tag}.TIFF", compression=compression, tiffinfo={0x0112: tag})
    manifest, _ = make_manifest(cli_inprocess, tmp_path, folder)
    assert len(manifest.rows) == 8
    for pixels in pixels_of(manifest).values():
        np.testing.assert_array_equal(pixels, pattern())


def test_transparent_pixels_make_no_points(cli_inprocess, project, trials) -> None:
    arguments = (trials / "04_cutouts/cut", "--conf", "0")
    formats = ("--format", "ply,npz,depth")
    status, report, _ = run_infer(cli_inprocess, *arguments, *formats, "-o", "cut", cwd=project)
    assert status == 0
    with np.load(project / "cut/predictions.npz") as npz:
        masks = [npz[f"00{number}/valid_mask"] for number in range(5)]
        names = npz["names"].tolist()
    for name, mask in zip(names, masks, strict=True):
        depth = np.asarray(Image.open(project / f"cut/depth/{name}.png"))
        assert not depth[~mask].any() and 0.2 < mask.mean() < 0.4
    vertices = PlyData.read(project / "cut/scene.ply")["vertex"]
    assert 0.2 * 5 * GRID < len(vertices) < 0.4 * 5 * GRID
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    assert (colors == 255).all(axis=1).mean() < 0.02  # the rim mixes with the white behind it
    assert {"step": "masks", "from": 5 * GRID, "to": len(vertices)} in report["result"]["cleaning"]
    more = ("--ignore-masks", "-o", "all")
    status, report, _ = run_infer(cli_inprocess, *arguments, *more, cwd=project)
    assert status == 0 and report["result"]["points"] == 5 * GRID


def test_alpha_becomes_the_mask_of_the_manifest(cli_inprocess, tmp_path, trials) -> None:
    folder = trials / "04_cutouts/cut"
    manifest, err = make_manifest(cli_inprocess, tmp_path, folder)
    assert "5 images have a mask" in err
    for row in manifest.rows:
        alpha = np.asarray(Image.open(folder / Path(row.image_path).name).getchannel("A"))
        mask = np.asarray(Image.open(manifest.root / row.mask_path))
        np.testing.assert_array_equal(mask, np.where(alpha >= 128, 255, 0))
    arguments = ("--views", "2", "--ignore-masks", "--overwrite")
    assert cli_inprocess("manifest", folder, *arguments, cwd=tmp_path)[0] == 0
    assert not any(row.mask_path for row in read_manifest(manifest.path).rows)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("masks", "{stem}.png"),
        ("masks", "{stem}.jpg.png"),
        ("Mask", "{stem}_mask.PNG"),
        ("images/masks", "{stem}.png"),
        ("images", "{stem}_mask.png"),
    ],
)
def test_a_folder_of_masks_is_the_mask_of_its_images(cli_inprocess, project, place, name) -> None:
    images = make_photos(project / "scene/images", "a.jpg", "b.jpg", size=(42, 28))
    mask = np.zeros((28, 42), np.uint8)
    mask[:7] = 255
    (project / "scene" / place).mkdir(parents=True, exist_ok=True)
    for stem in "ab":
        Image.fromarray(mask).save(project / "scene" / place / name.format(stem=stem))
    manifest, err = make_manifest(cli_inprocess, project, "scene")
    assert "2 images have a mask" in err
    assert len(manifest.rows) == 2
    for row in manifest.rows:
        view = read_view(row, manifest.root)
        assert view.mask is not None
        np.testing.assert_array_equal(view.mask, mask > 0)
    options = ("--conf", "0", "-o", "out")
    status, report, _ = run_infer(cli_inprocess, images, *options, cwd=project)
    assert status == 0 and report["result"]["points"] == 2 * 7 * 42


def test_targets_are_valid_only_where_masks_leave_pixels(cli_inprocess, tmp_path) -> None:
    make_photos(tmp_path / "scene/images", "a.png", "b.png", "c.png", size=(56, 28))
    mask = np.zeros((28, 56), np.uint8)
    mask[:, 28:] = 255
    (tmp_path / "scene/masks").mkdir()
    for stem in "ab":
        Image.fromarray(mask).save(tmp_path / f"scene/masks/{stem}.png")
    make_manifest(cli_inprocess, tmp_path, "scene", views=3)
    arguments = ("cache", "--teacher", "synthetic", "--size", "28x56")
    status, _, err = cli_inprocess(*arguments, cwd=tmp_path)
    assert status == 0, err
    cache = TeacherCache(tmp_path / "caches/teacher")
    (name,) = cache.names()
    valid = cache.read(name).targets.valid_mask
    assert not valid[:2, :, :28].any()
    assert valid[:2, :, 28:].all() and valid[2].all()


def test_a_mask_that_does_not_fit_leaves_its_image_out(cli_inprocess, tmp_path) -> None:
    make_photos(tmp_path / "scene/images", "a.png", "b.png", "c.png", "d.png", size=(56, 28))
    (tmp_path / "scene/masks").mkdir()
    Image.new("L", (28, 56), 255).save(tmp_path / "scene/masks/a.png")
    Image.new("L", (56, 28), 0).save(tmp_path / "scene/masks/b.png")
    _, err = make_manifest(cli_inprocess, tmp_path, "scene", status=5)
    assert "its mask a.png is 28x56 pixels, the image 56x28" in err
    assert "its mask leaves no pixel" in err
    assert set(rejected(tmp_path / "data")) == {"a.png", "b.png"}


def test_sixteen_suffixes_in_any_case_are_read(cli_inprocess, project, trials) -> None:
    pytest.importorskip("pillow_heif")
    folder = trials / "06_suffixes/photos"
    manifest, _ = make_manifest(cli_inprocess, project, folder)
    assert {Path(row.image_path).stem for row in manifest.rows} == {f"p{n:02d}" for n in range(16)}
    means = [pixels.mean() for _, pixels in sorted(pixels_of(manifest).items())]
    assert np.abs(np.diff(means)).max() < 1  # neighbors show nearly the same
    status, report, _ = run_infer(cli_inprocess, folder, cwd=project)
    assert status == 0 and report["result"]["views"] == 16 and not report["failed"]


def test_depth_and_poses_are_found_whatever_the_case(cli_inprocess, tmp_path, trials) -> None:
    shutil.copytree(trials / "06_suffixes/rgbd/room", tmp_path / "rgbd/room")
    rgbd_scene(tmp_path / "own/room", 4)
    sevenscenes_sequence(tmp_path / "chess/seq-01", 4)
    for path in [*(tmp_path / "own").rglob("0*.*"), *(tmp_path / "chess").rglob("*.*")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    manifest, _ = make_manifest(cli_inprocess, tmp_path, "rgbd", "own", "chess")
    assert len(manifest.rows) == 12
    for row in manifest.rows:
        view = read_view(row, manifest.root)
        assert view.depth is not None and view.world_from_cam is not None
    room = next(row for row in manifest.rows if row.dataset == "rgbd")
    stem = Path(room.image_path).stem
    (pose,) = (path for path in (tmp_path / "rgbd/room/pose").iterdir() if path.stem == stem)
    np.testing.assert_allclose(room.pose, np.loadtxt(pose).ravel(), atol=1e-4)
    (depth,) = (path for path in (tmp_path / "rgbd/room/depth").iterdir() if path.stem == stem)
    np.testing.assert_array_equal(
        np.asarray(Image.open(manifest.root / room.depth_path)), np.asarray(Image.open(depth))
    )


def test_every_video_is_upright_and_its_pixels_are_square(cli_inprocess, tmp_path, trials) -> None:
    pytest.importorskip("av")
    manifest, err = make_manifest(cli_inprocess, tmp_path, trials / "07_video")
    assert "anamorphic.mp4: pixels of 16:11 made square" in err
    found: dict[str, list[np.ndarray]] = {}
    for name, pixels in pixels_of(manifest).items():
        found.setdefault(name.rpartition("/")[0], []).append(pixels)
    assert set(found) == {path.name for path in (trials / "07_video").iterdir()}
    turned = {"rot90.mp4": (2, 0, 3, 1), "rot180.mp4": (3, 2, 1, 0), "rot270.mp4": (1, 3, 0, 2)}
    for name in ("plain.mp4", "bt601.mp4", "clip.MTS", "noext", *turned):
        assert len(found[name]) == 8
        upright = np.array(QUADRANTS)[list(turned.get(name, range(4)))]
        assert np.abs(quadrants(found[name][0]) - upright).max() < 6, name
        assert found[name][0].shape == (
            (160, 96, 3) if name in ("rot90.mp4", "rot270.mp4") else (96, 160, 3)
        )
    assert len(found["vfr.mp4"]) == 34
    circle = found["anamorphic.mp4"][0].max(axis=-1) > 128
    height, width = (np.ptp(np.flatnonzero(circle.any(axis=axis))) for axis in (1, 0))
    assert abs(width / height - 1) < 0.05


def test_videos_are_views_of_a_reconstruction(cli_inprocess, project, trials) -> None:
    pytest.importorskip("av")
    arguments = (trials / "07_video", "--fps", "2", "-o", "out")
    status, report, _ = run_infer(cli_inprocess, *arguments, cwd=project)
    assert status == 0 and not report["failed"]
    cameras = json.loads((project / "out/cameras.json").read_text())["cameras"]
    sizes = {camera["name"]: camera["size"] for camera in cameras}
    assert sizes["anamorphic_000000"] == [96, 175]
    assert {"clip_000000", "noext_000000"} < set(sizes)


@pytest.mark.parametrize("aspect", [(4, 3), (3, 4)])
@pytest.mark.parametrize("name", ["tape.mkv", "tape.M2TS", "tape"])
def test_other_anamorphic_containers_become_square(cli_inprocess, tmp_path, name, aspect) -> None:
    av = pytest.importorskip("av")
    folder = tmp_path / "clips"
    folder.mkdir()
    container_format = "matroska" if name == "tape.mkv" else "mpegts"
    with av.open(str(folder / name), "w", format=container_format) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pattern(), format="rgb24")))
        container.mux(stream.encode())
    manifest, _ = make_manifest(cli_inprocess, tmp_path, folder)
    assert {row.scene_id for row in manifest.rows} == {name}
    assert {(row.H, row.W) for row in manifest.rows} == {(48, 107) if aspect[0] == 4 else (64, 80)}
    pixels = next(iter(pixels_of(manifest).values()))
    assert np.abs(quadrants(pixels) - QUADRANTS).max() < 25


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
    assert {row.scene_id for row in manifest.rows} == {"scene0000_00/color"}
    assert "not read: 24 files: a depth map, no photograph" in err
    assert "no layout that is known" in err
    listed = [path for path, reason in rows_of_rejected(project / "data") if "depth" in reason]
    assert len(listed) == 24 and all("/depth/" in path for path in listed)
    for arguments in ((root / "scene0000_00",), (root / "scene0000_00", "--each")):
        status, report, _ = run_infer(cli_inprocess, *arguments, cwd=project)
        assert status == 0 and not report["failed"]


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


def test_a_7scenes_folder_has_no_failures(cli_inprocess, project, data_dir) -> None:
    sequence = next(path for path in data_dir.rglob("7scenes_kitchen/**/seq-*") if path.is_dir())
    arguments = (sequence, "--max-views", "3", "-o", "out")
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
    assert "1 files: neither an image nor a video" in err
    assert {"a.NEF", "c.CR3", "d.CR3"} == set(rejected(project / "data"))


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
