"""Every format, opened by a reader that is not ours, shows the same scene."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from exact_scene import exact_views, picture
from export_readers import CAMERAS, PIXEL, POINTS, pixels_in, read_listed, read_model, read_ply
from PIL import Image
from plyfile import PlyData

from distill3r_core.errors import FailedError, RequestError
from distill3r_core.io.exports.cameras import read_cameras
from distill3r_core.io.exports.view_arrays import write_depth_maps
from distill3r_core.io.previews import colorize
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.placements import full_size_pixels
from distill3r_core.reconstruction.export import save_reconstruction
from distill3r_core.reconstruction.formats import FORMATS
from distill3r_core.reconstruction.point_cloud import Cleaning
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.reconstruction.scale import Scale
from distill3r_core.reconstruction.view_maps import ViewMaps


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return Reconstruction(solve_cameras(*exact_views()).views, facts=("student: exact",))


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    save_reconstruction(scene, folder, list(FORMATS), cloud=Cleaning(conf=0.0), title="exact")
    return folder


@pytest.mark.parametrize("cameras", CAMERAS)
@pytest.mark.parametrize("points", POINTS)
def test_points_of_every_format_fall_on_the_same_pixels_in_cameras_of_every_other(
    folder, scene, points, cameras
):
    truth = pixels_in(*_truth(scene))
    found = pixels_in(np.asarray(POINTS[points](folder)[0], np.float64), CAMERAS[cameras](folder))
    assert np.isfinite(truth).mean() > 0.9
    assert np.nanmax(np.abs(found - truth)) < PIXEL


def _truth(scene):
    points = np.concatenate([v.global_map.points.reshape(-1, 3) for v in scene.views])
    cameras = [(v.camera.intrinsics, v.camera.world_from_cam) for v in scene.views]
    return points.astype(np.float64), cameras


def test_formats_of_the_global_head_alone_agree_too(tmp_path):
    pytest.importorskip("pycolmap")
    views, maps = exact_views(
        cameras=[((480, 640), 500.0), ((640, 480), 500.0), ((480, 640), 500.0)]
    )
    solved = solve_cameras(views, [ViewMaps(one.global_map, None) for one in maps], poses="pnp")
    scene = Reconstruction(solved.views, cloud_from="global")
    save_reconstruction(scene, tmp_path, list(FORMATS), cloud=Cleaning(conf=0.0))
    truth = pixels_in(*_truth(scene))
    assert np.isfinite(truth).mean() > 0.9
    for kind in POINTS.keys() - {"npz aligned"}:
        points = np.asarray(POINTS[kind](tmp_path)[0], np.float64)
        for cameras in CAMERAS:
            found = pixels_in(points, CAMERAS[cameras](tmp_path))
            assert np.nanmax(np.abs(found - truth)) < PIXEL, (kind, cameras)


def test_points_fall_on_the_pixels_they_come_from(folder, scene):
    pixels = pixels_in(read_ply(folder)[0].astype(np.float64), read_listed(folder))
    start = 0
    for index, view in enumerate(scene.views):
        own = full_size_pixels(view.loaded.fitted.placement).reshape(-1, 2)
        np.testing.assert_allclose(
            pixels[index, start : start + len(own)], own, atol=0.1
        )  # the focal length is fitted: within 1e-4
        start += len(own)


@pytest.mark.parametrize("name", ["ply", "glb", "colmap binary", "npz global", "html"])
def test_every_format_has_the_colors_the_network_saw(folder, scene, name):
    colors = np.concatenate([v.loaded.fitted.image.reshape(-1, 3) for v in scene.views])
    np.testing.assert_array_equal(POINTS[name](folder)[1], colors)


def test_colmap_knows_the_pictures_and_which_pixel_saw_each_point(folder, scene):
    model = read_model(folder)
    assert model.num_reg_images() == len(scene.views)
    for number in sorted(model.images):
        image = model.images[number]
        with Image.open(folder / "images" / image.name) as opened:
            assert opened.size == (image.camera.width, image.camera.height)
        view = scene.views[number - 1]
        own = full_size_pixels(view.loaded.fitted.placement).reshape(-1, 2)
        assert image.num_points3D == len(own)
        np.testing.assert_allclose([p.xy for p in image.points2D], own, atol=1e-5)
    assert max(point.error for point in model.points3D.values()) < 0.1


def test_the_pictures_beside_a_model_are_whole_and_upright(folder, scene):
    for index, view in enumerate(scene.views):
        with Image.open(folder / "images" / f"{view.camera.name}.jpg") as opened:
            assert opened.getexif().get(0x0112, 1) == 1
            difference = np.asarray(opened, float) - picture(view.camera.size, seed=index)
        assert np.abs(difference).mean() < 2


def test_the_preview_shows_the_depth_that_the_files_hold(folder, scene):
    depth = colorize(scene.views[0].depth, table="depth")
    expected = Image.fromarray(depth).resize((200, 150), Image.Resampling.NEAREST)
    with Image.open(folder / "preview.png") as opened:
        found = np.asarray(opened)[18:168, 212:412]  # the second panel of the first row
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("unit", ["relative", "m"])
def test_every_file_states_the_scale(scene, tmp_path, unit):
    scale = Scale() if unit == "relative" else Scale("m", "a measured door", 0.01)
    scaled = scene.scaled(1.0, scale)
    save_reconstruction(scaled, tmp_path, list(FORMATS), cloud=Cleaning(max_points=50))
    says = "relative" if unit == "relative" else "a measured door"
    texts = {
        "ply": " ".join(PlyData.read(tmp_path / "scene.ply").comments),
        "glb": json.dumps(trimesh.load_scene(tmp_path / "scene.glb").metadata),
        "npz": str(np.load(tmp_path / "predictions.npz")["about"]),
    } | {
        str(path): (tmp_path / path).read_text()
        for path in (
            "transforms.json", "cameras.json", "scene.html", "depth/depth.json",
            "sparse/0/cameras.txt", "sparse/0/images.txt", "sparse/0/points3D.txt",
        )
    }  # fmt: skip
    assert [name for name, text in texts.items() if says not in text] == []


def test_what_is_known_of_a_model_may_have_any_letters_and_lines(scene, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    told = replace(scene, facts=("license: nicht für\nden Handel",))
    save_reconstruction(told, tmp_path, list(FORMATS), cloud=Cleaning(max_points=50))
    assert "license: nicht f\\xfcr den Handel" in PlyData.read(tmp_path / "scene.ply").comments
    assert len(pycolmap.Reconstruction(str(tmp_path / "sparse/0")).points3D) == 50
    text = (tmp_path / "sparse/0/points3D.txt").read_text(encoding="utf-8")
    assert "# license: nicht für den Handel\n" in text


def test_the_page_names_nothing_outside_itself(folder):
    text = (folder / "scene.html").read_text()
    page = re.sub(r'<script id="data".*?</script>', "", text, flags=re.S)
    assert not re.search(r"https?:|//cdn|src=|href=|url\(|@import|fetch\(|XMLHttp", page)


def test_a_title_cannot_break_out_of_the_page(scene, tmp_path):
    title = '</script><script>alert("x")</script>'
    save_reconstruction(scene, tmp_path, ["html"], cloud=Cleaning(max_points=5), title=title)
    text = (tmp_path / "scene.html").read_text()
    assert "<script>alert" not in text
    facts = json.loads(re.search(r'id="facts"[^>]*>(.*?)</script>', text, re.S)[1])
    assert facts["title"] == title


@pytest.mark.parametrize("title", ["@DATA@", "@FACTS@ @TITLE@"])
def test_a_title_that_looks_like_a_mark_of_the_template_is_a_title(scene, tmp_path, title):
    save_reconstruction(scene, tmp_path, ["html"], cloud=Cleaning(max_points=5), title=title)
    text = (tmp_path / "scene.html").read_text()
    assert f"<title>{title}" in text
    assert json.loads(re.search(r'id="facts"[^>]*>(.*?)</script>', text, re.S)[1])["title"] == title
    data = re.search(r'id="data"[^>]*>(.*?)</script>', text, re.S)[1]
    assert len(base64.b64decode(data, validate=True)) == 5 * 16


DAMAGES = {
    "no cameras": {"cameras": []},
    "no list": {},
    "no about": {"about": None},
    "no size": {"size": [0, 0]},
    "half a size": {"size": [10]},
    "no focal length": {"intrinsics": [[0, 0, 1], [0, 0, 1], [0, 0, 1]]},
    "numbers missing": {"intrinsics": [1]},
    "no rotation": {"world_from_cam": [[0.0] * 4] * 4},
    "no number": {"world_from_cam": [[float("nan")] * 4] * 4},
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_cameras_are_named_as_such(folder, tmp_path, name):
    data = json.loads((folder / "cameras.json").read_text())
    damage = DAMAGES[name]
    if name == "no list":
        data = {}
    elif name in ("no cameras", "no about"):
        data |= damage
        data = {key: value for key, value in data.items() if value is not None}
    else:
        data["cameras"][1] |= damage
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(data))
    with pytest.raises(FailedError, match=r"cameras\.json"):
        read_cameras(path)


def test_an_unknown_format_is_refused_with_the_known_ones(scene, tmp_path):
    with pytest.raises(RequestError, match="usd") as raised:
        save_reconstruction(scene, tmp_path, ["usd"])
    assert "colmap" in raised.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_scene_saved_from_python_has_the_files_of_infer(scene, tmp_path):
    files = save_reconstruction(scene, tmp_path, ("ply", "colmap"), cloud=Cleaning(max_points=100))
    assert tmp_path / "scene.ply" in files and tmp_path / "sparse/0/points3D.bin" in files
    assert len(PlyData.read(tmp_path / "scene.ply")["vertex"].data) == 100


def test_a_pixel_that_lies_very_far_away_takes_no_depth_from_the_others(tmp_path):
    rng = np.random.default_rng(0)
    depths = {
        "near": rng.uniform(0.4, 0.6, (20, 30)),
        "far": rng.uniform(40, 60, (20, 30)),
        "wild": rng.uniform(1, 3, (20, 30)),
        "empty": -np.ones((20, 30)),
    }
    depths["wild"][0] = [2e5, np.inf, np.nan, -1, 0, 1e-6, *[2.0] * 24]
    eye = {name: np.eye(3) for name in depths}
    write_depth_maps(tmp_path, depths, eye, about={})
    views = json.loads((tmp_path / "depth.json").read_text())["views"]
    found = {
        name: np.asarray(Image.open(tmp_path / f"{name}.png"), np.float64) * view["scale"]
        for name, view in views.items()
    }
    for name in ("near", "far"):
        np.testing.assert_allclose(found[name], depths[name], rtol=1e-4)
    np.testing.assert_allclose(found["wild"][1:], depths["wild"][1:], rtol=2e-3)
    median = np.median(depths["wild"][np.isfinite(depths["wild"]) & (depths["wild"] > 0)])
    assert found["wild"][0, 0] == pytest.approx(100 * median)  # that far, or farther
    assert (found["wild"][0, 1:5] == 0).all()  # unknown
    assert found["wild"][0, 5] > 0  # near is not unknown
    assert not found["empty"].any()
