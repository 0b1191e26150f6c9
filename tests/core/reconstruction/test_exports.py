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

PIXEL = 0.01  # by which two formats may differ
Y_UP = np.diag([1.0, -1, -1, 1])  # glTF's world, and OpenGL's cameras


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return Reconstruction(solve_cameras(*exact_views()).views, facts=("student: exact",))


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    save_reconstruction(scene, folder, list(FORMATS), cloud=Cleaning(conf=0.0), title="exact")
    return folder


def _ply(folder):
    vertices = PlyData.read(folder / "scene.ply")["vertex"]
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    return np.stack([vertices[axis] for axis in "xyz"], 1), colors


def _glb(folder):
    loaded = trimesh.load_scene(folder / "scene.glb")
    matrix, name = loaded.graph["cloud"]
    cloud = loaded.geometry[name]
    points = trimesh.transform_points(cloud.vertices, Y_UP @ matrix)
    return points, _srgb_of_glb(folder / "scene.glb")


def _srgb_of_glb(path):
    """Colors of the cloud, which glTF has as linear light, read from the bytes of the file."""
    content = path.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    tree, binary = json.loads(content[20 : 20 + length]), content[28 + length :]
    cloud = next(mesh for mesh in tree["meshes"] if mesh["name"] == "cloud")
    accessor = tree["accessors"][cloud["primitives"][0]["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"]) == (5126, "VEC3")
    start = tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
    linear = np.frombuffer(binary, "<f4", 3 * accessor["count"], start).reshape(-1, 3)
    encoded = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def _npz(folder, key="points_global"):
    data = np.load(folder / "predictions.npz")
    views = range(len(data["names"]))
    points = [data[f"{index:03d}/{key}"].reshape(-1, 3) for index in views]
    colors = [data[f"{index:03d}/image"].reshape(-1, 3) for index in views]
    return np.concatenate(points), np.concatenate(colors)


def _depth(folder):
    facts = json.loads((folder / "depth" / "depth.json").read_text())
    points = []
    for camera in json.loads((folder / "cameras.json").read_text())["cameras"]:
        depth = np.asarray(Image.open(folder / "depth" / f"{camera['name']}.png"), np.float64)
        k = np.array(facts["views"][camera["name"]]["intrinsics"])
        v, u = np.indices(depth.shape) + 0.5
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(k).T
        pose = np.array(camera["world_from_cam"])
        local = (depth * facts["views"][camera["name"]]["scale"])[..., None] * rays
        points.append((local @ pose[:3, :3].T + pose[:3, 3]).reshape(-1, 3))
    return np.concatenate(points), None


def _html(folder):
    text = (folder / "scene.html").read_text()
    facts = json.loads(re.search(r'id="facts"[^>]*>(.*?)</script>', text, re.S)[1])
    data = base64.b64decode(re.search(r'id="data"[^>]*>(.*?)</script>', text, re.S)[1])
    points = np.frombuffer(data, "<f4", 3 * facts["points"]).reshape(-1, 3)
    colors = np.frombuffer(data, "u1", 3 * facts["points"], offset=points.nbytes)
    return points, colors.reshape(-1, 3)


def _colmap(folder, kind=None):
    model = _model(folder, kind)
    points = [model.points3D[number] for number in sorted(model.points3D)]
    return np.array([p.xyz for p in points]), np.array([p.color for p in points])


def _model(folder, kind=None):
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction()
    getattr(model, f"read_{kind or 'binary'}")(str(folder / "sparse" / "0"))
    return model


POINTS = {
    "ply": _ply,
    "glb": _glb,
    "colmap binary": lambda folder: _colmap(folder, "binary"),
    "colmap text": lambda folder: _colmap(folder, "text"),
    "npz global": _npz,
    "npz aligned": lambda folder: _npz(folder, "points_aligned"),
    "depth": _depth,
    "html": _html,
}


def _listed(folder):
    cameras, _ = read_cameras(folder / "cameras.json")
    return [(camera.intrinsics, camera.world_from_cam) for camera in cameras]


def _glb_cameras(folder):
    graph = trimesh.load_scene(folder / "scene.glb").graph
    cameras, _ = read_cameras(folder / "cameras.json")
    return [
        (camera.intrinsics, Y_UP @ graph[f"camera {camera.name}"][0] @ Y_UP) for camera in cameras
    ]


def _nerfstudio(folder):
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    return [
        (
            np.array([[f["fl_x"], 0, f["cx"]], [0, f["fl_y"], f["cy"]], [0, 0, 1]]),
            np.array(f["transform_matrix"]) @ Y_UP,
        )
        for f in frames
    ]


def _npz_cameras(folder):
    data = np.load(folder / "predictions.npz")
    found = []
    for index, camera in enumerate(read_cameras(folder / "cameras.json")[0]):
        rows, columns, _ = data[f"{index:03d}/image"].shape
        whole = np.diag([camera.size[1] / columns, camera.size[0] / rows, 1])
        found.append((whole @ data[f"{index:03d}/intrinsics"], data[f"{index:03d}/world_from_cam"]))
    return found


def _colmap_cameras(folder, kind):
    model = _model(folder, kind)
    found = []
    for number in sorted(model.images):
        image = model.images[number]
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        found.append((image.camera.calibration_matrix(), pose))
    return found


def _html_cameras(folder):
    text = (folder / "scene.html").read_text()
    views = json.loads(re.search(r'id="facts"[^>]*>(.*?)</script>', text, re.S)[1])["views"]
    found = []
    for (k, _), view, camera in zip(
        _listed(folder), views, read_cameras(folder / "cameras.json")[0], strict=True
    ):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = view["rotation"], view["center"]
        (height, width), (across, down) = camera.size, view["spread"]
        focal = width / 2 / across, height / 2 / down
        found.append((np.array([[focal[0], 0, k[0, 2]], [0, focal[1], k[1, 2]], [0, 0, 1]]), pose))
    return found


CAMERAS = {
    "cameras.json": _listed,
    "glb": _glb_cameras,
    "nerfstudio": _nerfstudio,
    "npz": _npz_cameras,
    "colmap binary": lambda folder: _colmap_cameras(folder, "binary"),
    "colmap text": lambda folder: _colmap_cameras(folder, "text"),
    "html": _html_cameras,
}


def _seen(points, cameras):
    """Pixels of all points in all cameras, (cameras, points, 2), NaN where too near to the eye."""
    found = []
    for k, pose in cameras:
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        pixels = local @ np.asarray(k).T
        near = local[:, 2] < 0.5
        found.append(np.where(near[:, None], np.nan, pixels[:, :2] / pixels[:, 2:]))
    return np.stack(found)


@pytest.mark.parametrize("cameras", CAMERAS)
@pytest.mark.parametrize("points", POINTS)
def test_points_of_every_format_fall_on_the_same_pixels_in_cameras_of_every_other(
    folder, scene, points, cameras
):
    truth = _seen(*_truth(scene))
    found = _seen(np.asarray(POINTS[points](folder)[0], np.float64), CAMERAS[cameras](folder))
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
    truth = _seen(*_truth(scene))
    assert np.isfinite(truth).mean() > 0.9
    for kind in POINTS.keys() - {"npz aligned"}:
        points = np.asarray(POINTS[kind](tmp_path)[0], np.float64)
        for cameras in CAMERAS:
            found = _seen(points, CAMERAS[cameras](tmp_path))
            assert np.nanmax(np.abs(found - truth)) < PIXEL, (kind, cameras)


def test_points_fall_on_the_pixels_they_come_from(folder, scene):
    pixels = _seen(_ply(folder)[0].astype(np.float64), _listed(folder))
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
    model = _model(folder)
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
