"""The page and the viewer, opened in Chromium: what is drawn is the scene."""

import base64
import json
import re
import threading

import numpy as np
import pytest
from browser import chromium
from exact_scene import exact_views, picture
from PIL import Image
from plyfile import PlyData

from distill3r_core.errors import ExtraMissingError, FailedError, InputMissingError
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.export import save_reconstruction
from distill3r_core.reconstruction.point_cloud import Cleaning, clean_cloud
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.stages import view as viewer

DRAWN = "document.body.dataset.drawn !== undefined"
BACKGROUND = np.array([20, 22, 26])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    scene = Reconstruction(solve_cameras(*exact_views(ImageFit(size=(112, 154)))).views)
    folder = tmp_path_factory.mktemp("page")
    save_reconstruction(
        scene, folder, ["ply", "html", "colmap"], cloud=Cleaning(conf=0.0), title="exact"
    )
    return folder


def _drawn(shot: np.ndarray) -> np.ndarray:
    """Pixels that are not background, right of the panel."""
    return (np.abs(shot[:, 260:].astype(int) - BACKGROUND) > 12).any(-1)


@pytest.mark.parametrize("window", [(1000, 800), (1300, 500), (500, 900)])
def test_the_page_opened_from_a_camera_shows_all_that_the_camera_saw(tmp_path, window):
    views, maps = exact_views(ImageFit(size=(112, 154)))
    scene = Reconstruction(
        solve_cameras(views[:1], maps[:1]).views
    )  # others' points have other colors
    save_reconstruction(scene, tmp_path, ["html"], cloud=Cleaning(conf=0.0))
    with chromium(tmp_path / "profile", size=window) as page:
        page.open((tmp_path / "scene.html").as_uri() + "#view=view_000", ready=DRAWN)
        page.evaluate("document.getElementById('frusta').click()")
        page.evaluate("document.getElementById('panel').remove()")
        page.evaluate("document.getElementById('help').remove()")
        shot = page.screenshot()
        height, width = page.evaluate("[canvas.clientHeight, canvas.clientWidth]")
        assert not page.errors
        outside = [url for url in page.requests if not url.startswith(("file:", "data:"))]
        assert outside == []
    # The whole picture is in its part of the window, as large as it can be.
    scale = min(height / 480, width / 640)
    photo = Image.fromarray(picture((480, 640))).resize((int(640 * scale), int(480 * scale)))
    left, top = (width - photo.width) // 2, (height - photo.height) // 2
    seen = shot[top : top + photo.height, left : left + photo.width].astype(float)
    assert np.abs(seen - np.asarray(photo, float)).mean() < 25  # an unrelated view: about 80


def test_the_page_draws_cloud_and_cameras_and_the_slider_takes_points_away(folder, tmp_path):
    with chromium(tmp_path) as page:
        page.open((folder / "scene.html").as_uri(), ready=DRAWN)
        whole = page.screenshot()
        page.evaluate("document.getElementById('confidence').value = 200")
        page.evaluate("draw()")
        thinned = page.screenshot()
        page.evaluate("document.getElementById('frusta').click()")
        without = page.screenshot()
        assert page.evaluate("count") == 3 * 112 * 154
        assert page.evaluate("document.querySelectorAll('#views button').length") == 4
        assert not page.errors
    assert _drawn(whole).mean() > 0.05
    assert _drawn(thinned).mean() < 0.8 * _drawn(whole).mean()
    orange = (np.abs(thinned[:, 260:].astype(int) - [255, 140, 0]) < 40).all(-1).sum()
    left = (np.abs(without[:, 260:].astype(int) - [255, 140, 0]) < 40).all(-1).sum()
    assert orange > left + 20


def test_on_a_phone_the_panel_lies_below_the_scene_and_scrolls(folder, tmp_path):
    with chromium(tmp_path, size=(360, 740)) as page:
        page.open((folder / "scene.html").as_uri(), ready=DRAWN)
        assert page.evaluate("innerWidth < 600")
        place = "(({top, bottom, left, right}) => [top, bottom, left, right])"
        canvas, panel = (
            page.evaluate(f"{place}(document.getElementById('{name}').getBoundingClientRect())")
            for name in ("canvas", "panel")
        )
        height = page.evaluate("innerHeight")
        assert canvas[1] <= panel[0] + 1 and panel[1] <= height + 1
        assert canvas[1] - canvas[0] > 0.6 * height
        page.evaluate("document.getElementById('panel').scrollTop = 1e6")
        last = (
            "document.querySelector('#views li:last-child button').getBoundingClientRect().bottom"
        )
        assert page.evaluate(last) <= height


def test_the_page_opens_so_that_the_cameras_are_seen(folder, tmp_path):
    with chromium(tmp_path, size=(1200, 700)) as page:
        page.open((folder / "scene.html").as_uri(), ready=DRAWN)
        clip = page.evaluate("Array.from(clipMatrix())")
    facts = re.search(r'id="facts"[^>]*>(.*?)</script>', (folder / "scene.html").read_text(), re.S)
    for view in json.loads(facts[1])["views"]:
        x, y, _, w = np.array(clip).reshape(4, 4).T @ [*view["center"], 1]
        assert w > 0 and abs(x / w) < 1 and abs(y / w) < 1


def test_an_empty_cloud_still_makes_a_page(tmp_path):
    views, maps = exact_views()
    scene = Reconstruction(solve_cameras(views, maps).views)
    cleaned = clean_cloud(scene, Cleaning(edges=1e-9))
    assert len(cleaned.cloud) == 0
    save_reconstruction(scene, tmp_path / "out", ["html", "ply", "glb", "colmap"], cloud=cleaned)
    with chromium(tmp_path / "profile") as page:
        page.open((tmp_path / "out" / "scene.html").as_uri(), ready=DRAWN)
        assert not page.errors


def test_the_viewer_serves_the_cloud_on_this_machine_alone(folder, tmp_path):
    pytest.importorskip("viser")
    done, ready = threading.Event(), threading.Event()
    told = {}

    def on_ready(report):
        told.update(report.result)
        ready.set()

    serving = threading.Thread(
        target=viewer.view,
        args=(folder,),
        kwargs={"on_ready": on_ready, "until": done, "port": 8765},
    )
    serving.start()
    try:
        assert ready.wait(60)
        assert told["url"].startswith("http://127.0.0.1:") and told["points"] == 3 * 112 * 154
        with chromium(tmp_path) as page:
            page.open(told["url"], ready="document.querySelector('canvas') !== null")
            # Below viser's own panels, which would do for a scene otherwise.
            page.wait(lambda: (page.screenshot()[200:] < 200).any(-1).mean() > 0.1)
            outside = [u for u in page.requests if u.startswith("http") and "127.0.0.1" not in u]
            assert outside == []
    finally:
        done.set()
        serving.join(timeout=30)
    assert not serving.is_alive()


def test_the_viewer_names_its_extra_and_what_it_misses(folder, tmp_path, monkeypatch):
    with pytest.raises(InputMissingError, match="no result"):
        viewer.view(tmp_path / "nothing")
    with pytest.raises(InputMissingError, match=r"scene\.ply"):
        viewer.view(tmp_path)
    (tmp_path / "scene.ply").write_text("no ply")
    (tmp_path / "cameras.json").write_text("{}")
    with pytest.raises(FailedError, match=r"scene\.ply"):
        viewer.view(tmp_path)
    monkeypatch.setattr(viewer.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissingError) as raised:
        viewer.view(folder)
    assert "distill3r[viewer]" in raised.value.hint


_SWATCHES = """<body style="margin:0"><canvas id="c" width="960" height="240"></canvas><script>
const file = Uint8Array.from(atob("GLB"), (c) => c.charCodeAt(0)).buffer;
const view = new DataView(file), length = view.getUint32(12, true);
const tree = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 20, length)));
const mesh = tree.meshes.find((m) => m.name === "cloud");
const accessor = tree.accessors[mesh.primitives[0].attributes.COLOR_0];
const start = 28 + length + tree.bufferViews[accessor.bufferView].byteOffset;
const glb = new Float32Array(file.slice(start, start + 12 * accessor.count));
const ply = PLY, canvas = document.getElementById("c").getContext("2d");
for (let i = 0; i < 96; i++) {
  const [r, g, b] = glb.slice(3 * i * STEP, 3 * i * STEP + 3);
  canvas.fillStyle = `color(srgb-linear ${r} ${g} ${b})`;
  canvas.fillRect(10 * i, 0, 10, 120);
  canvas.fillStyle = `rgb(${ply[i].join(",")})`;
  canvas.fillRect(10 * i, 120, 10, 120);
}
document.body.dataset.drawn = 1;</script></body>"""


def test_glb_and_ply_have_the_same_colors_in_the_browser(folder, tmp_path):
    """Chromium reads the GLB's numbers as linear light, as the format defines them."""
    scene = Reconstruction(solve_cameras(*exact_views(ImageFit(size=(112, 154)))).views)
    save_reconstruction(scene, tmp_path, ["glb"], cloud=Cleaning(conf=0.0))
    vertices = PlyData.read(folder / "scene.ply")["vertex"]
    step = len(vertices) // 96
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)[::step][:96]
    glb = base64.b64encode((tmp_path / "scene.glb").read_bytes()).decode()
    text = _SWATCHES.replace("STEP", str(step)).replace("PLY", json.dumps(colors.tolist()))
    page_file = tmp_path / "swatches.html"
    page_file.write_text(text.replace("GLB", glb))  # last: base64 may hold the other words
    with chromium(tmp_path / "profile", size=(1000, 300)) as page:
        page.open(page_file.as_uri(), ready=DRAWN)
        shot = page.screenshot().astype(int)
        assert not page.errors
    np.testing.assert_allclose(shot[60, 5:960:10], shot[180, 5:960:10], atol=2)
    np.testing.assert_allclose(shot[180, 5:960:10], colors, atol=1)
