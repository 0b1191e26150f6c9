"""Readers of every export format that are not ours: points, colors and cameras of a file."""

import base64
import json
import re

import numpy as np
import pytest
import trimesh
from PIL import Image
from plyfile import PlyData

from distill3r_core.io.exports.cameras import read_cameras

PIXEL = 0.01  # by which two formats may differ
Y_UP = np.diag([1.0, -1, -1, 1])  # glTF's world, and OpenGL's cameras


def read_ply(folder):
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
    model = read_model(folder, kind)
    points = [model.points3D[number] for number in sorted(model.points3D)]
    return np.array([p.xyz for p in points]), np.array([p.color for p in points])


def read_model(folder, kind=None):
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction()
    getattr(model, f"read_{kind or 'binary'}")(str(folder / "sparse" / "0"))
    return model


POINTS = {
    "ply": read_ply,
    "glb": _glb,
    "colmap binary": lambda folder: _colmap(folder, "binary"),
    "colmap text": lambda folder: _colmap(folder, "text"),
    "npz global": _npz,
    "npz aligned": lambda folder: _npz(folder, "points_aligned"),
    "depth": _depth,
    "html": _html,
}


def read_listed(folder):
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
    model = read_model(folder, kind)
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
        read_listed(folder), views, read_cameras(folder / "cameras.json")[0], strict=True
    ):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = view["rotation"], view["center"]
        (height, width), (across, down) = camera.size, view["spread"]
        focal = width / 2 / across, height / 2 / down
        found.append((np.array([[focal[0], 0, k[0, 2]], [0, focal[1], k[1, 2]], [0, 0, 1]]), pose))
    return found


CAMERAS = {
    "cameras.json": read_listed,
    "glb": _glb_cameras,
    "nerfstudio": _nerfstudio,
    "npz": _npz_cameras,
    "colmap binary": lambda folder: _colmap_cameras(folder, "binary"),
    "colmap text": lambda folder: _colmap_cameras(folder, "text"),
    "html": _html_cameras,
}


def pixels_in(points, cameras):
    """Pixels of all points in all cameras, (cameras, points, 2), NaN where too near to the eye."""
    found = []
    for k, pose in cameras:
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        pixels = local @ np.asarray(k).T
        near = local[:, 2] < 0.5
        found.append(np.where(near[:, None], np.nan, pixels[:, :2] / pixels[:, 2:]))
    return np.stack(found)


def assert_complete(folder, *, views, points):
    """Every format of a folder, read by others, has so many views and points of a cloud.

    Args:
        points: Of the cloud; those of whole maps are as many as their pixels.
    """
    whole = sum(rows * columns for rows, columns in _map_sizes(folder))
    for name in POINTS.keys() - {"colmap text", "npz aligned"}:
        wanted = whole if name.startswith("npz") or name == "depth" else points
        found = POINTS[name](folder)[0]
        assert found.shape == (wanted, 3), name
        assert np.isfinite(found).mean() > 0.99, name
    listed = read_listed(folder)
    for name in CAMERAS.keys() - {"colmap text"}:
        found = CAMERAS[name](folder)
        assert len(found) == views, name
        for (mine, pose), (wanted, other) in zip(found, listed, strict=True):
            np.testing.assert_allclose(mine, wanted, rtol=1e-3, atol=1e-3, err_msg=name)
            np.testing.assert_allclose(pose, other, rtol=1e-4, atol=1e-4, err_msg=name)
    rows = (folder / "trajectory.txt").read_text().splitlines()
    assert len([row for row in rows if not row.startswith("#")]) == views


def _map_sizes(folder):
    data = np.load(folder / "predictions.npz")
    return [data[f"{index:03d}/image"].shape[:2] for index in range(len(data["names"]))]
