"""`infer --poses colmap`: local maps at COLMAP's poses, whatever the model makes of the poses."""

import numpy as np
import pytest
from exact_scene import CAMERAS, SCALES, exact_views, with_points, world_from_cams
from scipy.spatial.transform import Rotation

from distill3r_core.errors import NothingUsableError, RequestError
from distill3r_core.geometry.structure_from_motion import SolvedImage
from distill3r_core.io.images.fit import ImageFit
from distill3r_core.reconstruction.cameras import colmap_views
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.cameras.colmap_views import place_by_colmap
from distill3r_core.reconstruction.head_options import resolve_options
from distill3r_core.reconstruction.view_maps import ViewMaps, undo_transpose
from distill3r_core.report import Silent

UNIT = 0.2  # of the pretended COLMAP, in the world's


def posed(fit=None):
    """Views whose local maps are exact, and whose places in the model's world are wrong."""
    views, maps = exact_views(fit)
    wrong = []
    for index, one in enumerate(maps):
        turn = Rotation.from_euler("xyz", [9 * index, -20 * index, 4], degrees=True).as_matrix()
        moved = one.global_map.points @ turn.T + index
        wrong.append(ViewMaps(with_points(one.global_map, moved), one.local_map))
    return solve_cameras(views, wrong).views


@pytest.fixture
def solver(monkeypatch):
    """A solver that knows the truth, in a world of its own; it sees the views of `placed`."""
    seen = []

    def install(placed, points=40):
        world = np.diag([1.0, -1, -1, 1])
        world[:3, 3] = 3, 2, 1

        def solve_images(views, *, ordered, on_step):
            on_step("features", 0, 3)
            found = {}
            for index, (image, camera) in enumerate(views):
                size, focal = CAMERAS[index]
                assert image.shape[:2] == camera.size == size
                seen.append(camera)
                rng = np.random.default_rng(index)
                pixels = rng.uniform((0, 0), size[::-1], (points, 2))
                at = pixels - np.array(size[::-1]) / 2
                depth = 3 + 0.5 * np.sin(at[:, 0] / 90) * np.cos(at[:, 1] / 70)
                pose = world @ world_from_cams()[index]
                pose[:3, 3] /= UNIT
                k = np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])
                found[index] = SolvedImage(pose, pixels, depth / UNIT, k, size)
            return {index: found[index] for index in placed}

        monkeypatch.setattr(colmap_views, "solve_images", solve_images)
        return seen

    return install


@pytest.mark.parametrize("fit", [ImageFit(size=(112, 154)), ImageFit(size=(112, 154), mode="crop")])
def test_cameras_and_clouds_are_the_true_ones_in_the_unit_of_the_local_maps(solver, fit):
    cameras = solver(range(3))
    placed, failed = place_by_colmap(posed(fit), Silent())
    assert not failed
    assert all(camera.intrinsics is None for camera in cameras)
    exact = [undo_transpose(*pair)[1] for pair in zip(*exact_views(fit), strict=True)]
    unit = np.median(np.array(SCALES))  # world units in one of the result's
    for view, truth, pose, (_, focal) in zip(
        placed, exact, world_from_cams(), CAMERAS, strict=True
    ):
        np.testing.assert_allclose(view.camera.world_from_cam[:3, :3], pose[:3, :3], atol=1e-6)
        np.testing.assert_allclose(unit * view.camera.world_from_cam[:3, 3], pose[:3, 3], atol=0.01)
        np.testing.assert_allclose(view.camera.intrinsics[0, 0], focal)
        assert view.camera.facts["focal_source"] == "colmap"
        assert view.aligned is not None
        world = unit * view.aligned.world_map.points
        # Depth is compared at the nearest pixel of a small map: within a few percent.
        np.testing.assert_allclose(world, truth.global_map.points, rtol=0.02, atol=0.06)


def test_a_view_that_colmap_does_not_place_is_named_and_left_out(solver):
    solver((0, 2))
    placed, failed = place_by_colmap(posed(), Silent())
    assert [view.loaded.name for view in placed] == ["view_000", "view_002"]
    assert [(one.item, one.reason) for one in failed] == [
        ("view_001", f"no camera: {colmap_views.UNPLACED}")
    ]


def test_the_frame_is_that_of_the_first_view_that_was_placed(solver):
    solver((1, 2))
    placed, _ = place_by_colmap(posed(), Silent())
    np.testing.assert_allclose(placed[0].camera.world_from_cam, np.eye(4), atol=1e-9)
    first, second = world_from_cams()[1:]
    wanted = (np.linalg.inv(first) @ second)[:3, :3]
    np.testing.assert_allclose(placed[1].camera.world_from_cam[:3, :3], wanted, atol=1e-6)


@pytest.mark.parametrize(("placed", "points"), [((), 40), ((1,), 40), ((0, 1, 2), 3)])
def test_what_cannot_be_placed_at_all_is_an_error(solver, placed, points):
    solver(placed, points)
    with pytest.raises(NothingUsableError):
        place_by_colmap(posed(), Silent())


def test_options_that_contradict_it_are_refused():
    pytest.importorskip("pycolmap")
    options = resolve_options("both", None, "colmap")
    assert options is not None
    assert (options.poses, options.cloud, options.refine) == ("colmap", "aligned", False)
    for head, cloud, refine in (
        ("local", None, None),
        ("global", None, None),
        ("both", "global", None),
        ("both", None, True),
    ):
        with pytest.raises(RequestError):
            resolve_options(head, cloud, "colmap", refine=refine)
