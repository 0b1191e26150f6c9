"""What people have in their folders: every kind of file is read, or left out with the reason."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from infer_project import make_photos, run_infer
from input_patterns import GRID, QUADRANTS, make_manifest, pattern, pixels_of, quadrants
from PIL import Image
from plyfile import PlyData
from trees import rejected, rgbd_scene, sevenscenes_sequence

from distill3r_core.cache.store import TeacherCache
from distill3r_core.data.manifest import read_manifest
from distill3r_core.data.manifest_views import read_view


@pytest.fixture
def trials(data_dir) -> Path:
    return data_dir / "trials"


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
        assert np.abs(colors - QUADRANTS).max() < 12, name


def test_every_orientation_is_upright_in_a_reconstruction(cli_inprocess, project, trials) -> None:
    pytest.importorskip("pillow_heif")
    arguments = (trials / "03_tiff_orientation/photos", "--format", "nerfstudio", "-o", "out")
    status, report, _ = run_infer(cli_inprocess, *arguments, cwd=project)
    assert status == 0 and report["result"]["views"] == 48 and not report["failed"]
    frames = json.loads((project / "out/transforms.json").read_text())["frames"]
    truth = json.loads((trials / "03_tiff_orientation/truth.json").read_text())
    sizes = {Path(name).stem: size for name, size in truth.items()}
    assert {Path(frame["file_path"]).stem for frame in frames} == set(sizes)
    for frame in frames:
        name = frame["file_path"]
        assert [frame["h"], frame["w"]] == sizes[Path(name).stem], name
        with Image.open(project / "out" / name) as image:
            assert image.getexif().get(0x0112, 1) == 1, name
            shown = np.asarray(image.convert("RGB"))
        assert np.abs(quadrants(shown) - QUADRANTS).max() < 12, name


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
