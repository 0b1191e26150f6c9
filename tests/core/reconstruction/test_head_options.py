"""One head alone: the global one places views by PnP, the local one knows each view by itself."""

import inspect
import json
import re

import numpy as np
import pytest
import torch
from exact_scene import exact_views, with_points, world_from_cams
from PIL import Image

from distill3r_core import reconstruct
from distill3r_core.errors import ExtraMissingError, InputMissingError, RequestError
from distill3r_core.geometry import pnp
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.models import build_student
from distill3r_core.reconstruction.cameras import camera_poses
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.export import save_reconstruction
from distill3r_core.reconstruction.head_options import resolve_options
from distill3r_core.reconstruction.local_views import LocalViews, find_local_cameras
from distill3r_core.reconstruction.prediction.forward_pass import run_student
from distill3r_core.reconstruction.prediction.memory_plan import plan_pass
from distill3r_core.reconstruction.view_maps import ViewMaps
from distill3r_core.stages import view as viewer

# One camera, upright, on its side, and at half the size.
ONE_CAMERA = (((480, 640), 500.0), ((640, 480), 500.0), ((240, 320), 250.0))


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return build_student("tiny").eval()


def _global_alone(fit=None, cameras=ONE_CAMERA):
    views, maps = exact_views(fit, cameras=cameras)
    return views, [ViewMaps(one.global_map, None) for one in maps]


@pytest.mark.parametrize("fit", [ImageFit(size=(28, 42)), ImageFit(size=(112, 154), mode="crop")])
def test_exact_global_maps_of_one_camera_give_back_where_it_stood(fit):
    pytest.importorskip("pycolmap")
    solved = solve_cameras(*_global_alone(fit), poses="pnp")
    assert not solved.failed
    for view, pose, (_, focal) in zip(solved.views, world_from_cams(), ONE_CAMERA, strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-4)
        np.testing.assert_allclose(view.camera.intrinsics[0, 0], focal, rtol=1e-4)
        assert view.aligned is None and view.agreement is None
    sources = [view.camera.facts["focal_source"] for view in solved.views]
    assert sources[0] == "points"
    assert sources[1:] == ["the first view's, scaled by the long edge"] * 2


def test_pictures_of_one_size_share_the_focal_length_of_the_first_whatever_their_own_maps_say():
    pytest.importorskip("pycolmap")
    views, maps = _global_alone(cameras=[((480, 640), 500.0)] * 3)
    stretched = maps[2].global_map.points * [1, 1, 1.1]
    maps[2] = ViewMaps(with_points(maps[2].global_map, stretched), None)
    cameras = [view.camera for view in solve_cameras(views, maps, poses="pnp").views]
    assert len({camera.intrinsics[0, 0] for camera in cameras}) == 1
    assert [camera.facts["focal_source"] for camera in cameras[1:]] == ["the first view's"] * 2


def test_depth_of_a_global_map_is_z_in_its_own_camera():
    pytest.importorskip("pycolmap")
    views, maps = exact_views(cameras=ONE_CAMERA)
    alone = [ViewMaps(one.global_map, None) for one in maps]
    both = solve_cameras(views, maps).views
    for one, two in zip(solve_cameras(views, alone, poses="pnp").views, both, strict=True):
        np.testing.assert_allclose(one.depth, two.depth, rtol=1e-3)


def test_a_first_map_that_fits_no_camera_leaves_each_view_its_own_guess():
    pytest.importorskip("pycolmap")
    views, maps = _global_alone()
    mirrored = maps[0].global_map.points * [-1, -1, 1]
    maps[0] = ViewMaps(with_points(maps[0].global_map, mirrored), None)
    solved = solve_cameras(views, maps, poses="pnp")
    for view in solved.views:
        assert view.camera.facts["focal_source"].startswith("guessed")
        width = max(view.camera.size)
        assert view.camera.intrinsics[0, 0] == pytest.approx(width / 2 / np.tan(np.radians(30)))


def test_a_global_map_without_numbers_leaves_its_view_out():
    pytest.importorskip("pycolmap")
    views, maps = _global_alone()
    nothing = np.full_like(maps[1].global_map.points, np.nan)
    maps[1] = ViewMaps(with_points(maps[1].global_map, nothing), None)
    solved = solve_cameras(views, maps, poses="pnp")
    assert [view.camera.name for view in solved.views] == ["view_000", "view_002"]
    assert solved.failed[0].item == "view_001" and "no point" in solved.failed[0].reason


def test_poses_do_not_know_how_many_threads_there_are(monkeypatch):
    pytest.importorskip("pycolmap")
    views, maps = exact_views()
    noise = np.random.default_rng(0)
    noisy = [
        ViewMaps(
            with_points(
                one.global_map,
                one.global_map.points + noise.normal(0, 0.1, (*_size(one), 3)),
            ),
            one.local_map,
        )
        for one in maps
    ]

    def poses(threads, seed=0):
        monkeypatch.setattr(camera_poses.os, "cpu_count", lambda: threads)
        solved = solve_cameras(views * 4, noisy * 4, poses="pnp", seed=seed)
        return np.stack([view.camera.world_from_cam for view in solved.views])

    np.testing.assert_array_equal(poses(1), poses(7))
    assert (poses(1) != poses(1, seed=1)).any()


def _size(one):
    return one.global_map.confidence.shape


def test_each_head_alone_says_what_it_says_beside_the_other(student):
    views = exact_views()[0]
    both = run_student(student, views).maps
    for name in ("global", "local"):
        for one, two in zip(run_student(student, views, head=name).maps, both, strict=True):
            assert list(one.known) == [name]
            np.testing.assert_array_equal(one.known[name].points, two.known[name].points)
            np.testing.assert_array_equal(one.known[name].confidence, two.known[name].confidence)


def test_a_pass_of_one_head_is_planned_with_less(student):
    views = exact_views()[0]
    both = plan_pass(student, views).bytes
    for name in ("global", "local"):
        assert plan_pass(student, views, head=name).bytes < both


def test_views_alone_have_the_focal_lengths_of_both_heads_and_no_pose(student, tmp_path):
    views, maps = exact_views()
    local, failed = find_local_cameras(views, [ViewMaps(None, one.local_map) for one in maps])
    assert not failed
    for one, two in zip(local, solve_cameras(views, maps).views, strict=True):
        np.testing.assert_array_equal(one.camera.intrinsics, two.camera.intrinsics)
        np.testing.assert_array_equal(one.depth, two.aligned.local_map.points[..., 2])
    save_reconstruction(LocalViews(local), tmp_path, ("depth", "npz"))
    data = json.loads((tmp_path / "cameras.json").read_text())
    assert all("world_from_cam" not in camera for camera in data["cameras"])
    assert "world_from_cam" not in data["about"] and "not known" in data["about"]["poses"]
    facts = json.loads((tmp_path / "depth/depth.json").read_text())
    assert "own camera" in facts["about"]["frame"]
    for view in local:
        stored = np.asarray(Image.open(tmp_path / f"depth/{view.camera.name}.png"), np.float64)
        found = stored * facts["views"][view.camera.name]["scale"]
        np.testing.assert_allclose(found, view.depth, rtol=1e-4)
    with np.load(tmp_path / "predictions.npz") as npz:
        assert {key.split("/")[1] for key in npz.files if "/" in key} == {
            "image", "points_local", "confidence_local", "depth", "intrinsics", "valid_mask",
        }  # fmt: skip
        assert "points_global" in json.loads(str(npz["about"]))["left_out"]
        np.testing.assert_array_equal(npz["001/points_local"], local[1].local_map.points)
    with pytest.raises(InputMissingError, match="no poses"):
        viewer.view(tmp_path)


def test_a_local_map_without_numbers_leaves_its_view_out():
    views, maps = exact_views()
    nothing = np.full_like(maps[1].local_map.points, np.nan)
    maps[1] = ViewMaps(None, with_points(maps[1].local_map, nothing))
    local, failed = find_local_cameras(views, maps)
    assert [view.camera.name for view in local] == ["view_000", "view_002"]
    assert failed[0].item == "view_001"


def test_from_python_a_local_head_gives_views_that_save_no_scene(student, tmp_path):
    pictures = [view.pixels for view in exact_views()[0]]
    local = reconstruct(pictures, student, fit=ImageFit(size=(28, 42)), head="local")
    assert [view.camera.name for view in local.views] == ["view_000", "view_001", "view_002"]
    with pytest.raises(RequestError, match="ply"):
        save_reconstruction(local, tmp_path / "out", ("depth", "ply"))
    assert not (tmp_path / "out").exists()
    assert tmp_path / "out/depth/depth.json" in save_reconstruction(local, tmp_path / "out")


@pytest.mark.parametrize(
    ("head", "wishes", "says"),
    [
        ("global", {"cloud": "aligned"}, "--cloud aligned"),
        ("global", {"poses": "similarity"}, "--poses similarity"),
        ("local", {"cloud": "global"}, "--cloud"),
        ("local", {"poses": "pnp"}, "--poses"),
        ("local", {"pnp": True}, "--pnp"),
    ],
)
def test_what_a_head_does_not_give_is_refused_by_name(head, wishes, says):
    with pytest.raises(RequestError, match=f"^{re.escape(says)}"):
        resolve_options(head, **{"cloud": None, "poses": None} | wishes)


@pytest.mark.parametrize(
    ("head", "wishes", "says"),
    [
        ("lokal", {}, "head: 'lokal' is unknown: both, global or local; did you mean 'local'?"),
        ("both", {"cloud": "foo"}, "cloud: 'foo' is unknown: global or aligned"),
        ("both", {"poses": "foo"}, "poses: 'foo' is unknown: similarity, pnp or colmap"),
    ],
)
def test_a_wrong_name_from_python_is_refused(head, wishes, says):
    unchecked = inspect.unwrap(resolve_options)  # users have no checker of types
    with pytest.raises(RequestError, match=f"^{re.escape(says)}"):
        unchecked(head, **{"cloud": None, "poses": None} | wishes)


def test_what_is_left_open_follows_from_the_heads():
    both = resolve_options("both", None, None)
    assert (both.cloud, both.poses, both.compare) == ("aligned", "similarity", False)
    assert resolve_options("both", None, None, pnp=True).compare
    assert resolve_options("local", None, None) is None
    if pnp.pnp_available():
        assert resolve_options("global", None, None) == resolve_options("global", "global", "pnp")
        assert resolve_options("global", None, None).cloud == "global"


def test_the_global_head_alone_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setattr(pnp, "pnp_available", lambda: False)
    with pytest.raises(ExtraMissingError, match="colmap"):
        resolve_options("global", None, None)
    assert resolve_options("both", None, None).poses == "similarity"


def test_without_the_comparison_pnp_is_not_run(monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("it was run")

    monkeypatch.setattr(pnp, "pose_from_points", never)
    assert all(
        view.agreement is None for view in solve_cameras(*exact_views(), compare=False).views
    )
