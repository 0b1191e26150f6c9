"""Where a camera's frustum lies in every drawing: worked by hand for one that looks along -x."""

import json
import re

import numpy as np
import pytest
import trimesh

from distill3r_core.io.exports.cameras import Camera
from distill3r_core.io.exports.cloud import Cloud
from distill3r_core.io.exports.frusta import FRUSTUM_EDGES, frustum, frustum_length
from distill3r_core.io.exports.glb import write_glb
from distill3r_core.io.exports.html_page import PagePart, write_page
from distill3r_core.stages import view as viewer

# Sees 1/2 to either side and 1/3 up and down at depth 1; its x is the world's z, y is y.
CAMERA = Camera(
    name="a",
    size=(40, 60),
    intrinsics=np.array([[60.0, 0, 30], [0, 60, 20], [0, 0, 1]]),
    world_from_cam=np.array([[0.0, 0, -1, 1], [0, 1, 0, 2], [1, 0, 0, 3], [0, 0, 0, 1]]),
    facts={},
)
# Its middle eight tenths are 8 long: frusta are 0.04 * 8 deep.
CLOUD = Cloud(
    np.stack([np.arange(11.0), np.zeros(11), np.zeros(11)], 1).astype(np.float32),
    np.zeros((11, 3), np.uint8),
)
LENGTH = 0.32
APEX = [1, 2, 3]
CORNERS = [
    [1 - 0.32, 2 - 0.32 / 3, 3 - 0.16],  # upper left
    [1 - 0.32, 2 - 0.32 / 3, 3 + 0.16],
    [1 - 0.32, 2 + 0.32 / 3, 3 + 0.16],
    [1 - 0.32, 2 + 0.32 / 3, 3 - 0.16],
]


def test_a_frustum_has_its_apex_at_the_center_and_corners_where_the_picture_ends():
    assert frustum_length([CAMERA], CLOUD) == pytest.approx(LENGTH)
    np.testing.assert_allclose(frustum(CAMERA, LENGTH), [APEX, *CORNERS])


def test_the_page_draws_the_frustum_there(tmp_path):
    path = tmp_path / "scene.html"
    part = PagePart("a", CLOUD, np.ones(11), [CAMERA])
    write_page(path, [part], title="a", about={})
    facts = re.search(r'id="facts"[^>]*>(.*?)</script>', path.read_text(), re.S)[1]
    found = np.array(json.loads(facts)["lines"]).reshape(8, 2, 3)
    corners = np.array([APEX, *CORNERS])
    np.testing.assert_allclose(found, corners[np.array(FRUSTUM_EDGES)], atol=1e-6)
    np.testing.assert_allclose(found[:4, 0], [APEX] * 4)  # four edges from the apex
    np.testing.assert_allclose(found[4:, 0], CORNERS, atol=1e-6)  # and once around the picture
    np.testing.assert_allclose(found[4:, 1], [*CORNERS[1:], CORNERS[0]], atol=1e-6)


def test_the_glb_draws_the_frustum_there_with_y_up(tmp_path):
    path = tmp_path / "scene.glb"
    write_glb(path, CLOUD, [CAMERA], about={})
    scene = trimesh.load_scene(path)
    matrix, name = scene.graph["frustum a"]
    found = trimesh.transform_points(scene.geometry[name].vertices, matrix)
    expected = np.array([APEX, *CORNERS]) * [1, -1, -1]
    found, expected = (np.unique(part.round(5), axis=0) for part in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_viewer_draws_a_frustum_of_that_place_and_shape(tmp_path):
    viser = pytest.importorskip("viser")
    server = viser.ViserServer(port=8795, verbose=False)
    try:
        depth = frustum_length([CAMERA], CLOUD)
        handle = viewer._add_camera(server, CAMERA, 25 * depth, viewer.ResultFiles(tmp_path, None))
    finally:
        server.stop()
    np.testing.assert_allclose(handle.position, APEX)
    w, x, y, z = handle.wxyz
    looks = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
    np.testing.assert_allclose(looks, [-1, 0, 0], atol=1e-9)
    # viser takes the whole vertical angle, and width over height.
    assert np.tan(handle.fov / 2) == pytest.approx(1 / 3)
    assert np.tan(handle.fov / 2) * handle.aspect == pytest.approx(1 / 2)
