"""Cameras from point maps: the closed form finds what is true, and PnP agrees with it."""

import dataclasses
import math

import numpy as np
import pytest
from exact_scene import CAMERAS, SCALES, exact_views, with_points, world_from_cams

from distill3r_core.errors import ExtraMissingError
from distill3r_core.geometry import pnp
from distill3r_core.io.images.fit import FittedImage, ImageFit
from distill3r_core.io.images.teacher_fit import TeacherFit
from distill3r_core.reconstruction.cameras.camera_poses import solve_cameras
from distill3r_core.reconstruction.point_cloud import Cleaning, clean_cloud
from distill3r_core.reconstruction.reconstruction import Reconstruction
from distill3r_core.reconstruction.view_maps import ViewMaps
from distill3r_core.types import ImagePlacement, PointMap

FITS = {
    "squash": ImageFit(size=(28, 42)),
    "crop": ImageFit(size=(28, 70), mode="crop"),
    "resized": ImageFit(size=(56, 84), resized=(28, 42)),
    "teacher": ImageFit(size=(28, 42), teacher=TeacherFit(long_edge=128, multiple=16)),
    "thinned": ImageFit(size=(112, 154)),  # large enough that not every pixel votes
}


@pytest.mark.parametrize("name", FITS)
def test_exact_maps_give_back_the_cameras_they_were_made_with(name):
    views, maps = exact_views(FITS[name])
    solved = solve_cameras(views, maps)
    assert not solved.failed
    for view, pose, (size, focal), scale in zip(
        solved.views, world_from_cams(), CAMERAS, SCALES, strict=True
    ):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-5)
        np.testing.assert_allclose(view.camera.intrinsics[0, 0], focal, rtol=1e-4)
        np.testing.assert_allclose(view.camera.intrinsics[:2, 2], [size[1] / 2, size[0] / 2])
        assert view.camera.facts["focal_source"] == "points"
        assert view.camera.facts["misfit"] < 1e-5
        np.testing.assert_allclose(
            np.cbrt(np.linalg.det(view.aligned.world_from_local[:, :3])),
            scale,
            rtol=1e-4,
            atol=1e-4,
        )
        np.testing.assert_allclose(view.aligned.world_map.points, view.global_map.points, atol=1e-4)


def test_the_misfit_is_how_far_pixels_lie_from_where_the_camera_sees_their_points():
    views, maps = exact_views()
    local = maps[0].local_map
    bent = dataclasses.replace(maps[0], local_map=with_points(local, local.points * [1, 2, 1]))
    camera = solve_cameras(views[:1], [bent]).views[0].camera
    (rows, columns), focal = camera.size, camera.intrinsics[0, 0]
    off = []
    for row in range(28):
        for column in range(42):
            x, y, z = bent.local_map.points[row, column].astype(np.float64)
            seen = focal * x / z + columns / 2, focal * y / z + rows / 2
            lies = (column + 0.5) * columns / 42, (row + 0.5) * rows / 28
            off.append(math.dist(seen, lies))
    assert camera.facts["misfit"] == pytest.approx(np.median(off) / 640, rel=0.1)  # most vote
    assert camera.facts["misfit"] > 0.05


def test_the_world_is_the_first_camera_even_where_the_global_map_says_otherwise():
    views, maps = exact_views()
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = [
        ViewMaps(
            with_points(part.global_map, part.global_map.points @ turn.T + [1, 2, 3]),
            part.local_map,
        )
        for part in maps
    ]
    solved = solve_cameras(views, moved).views
    np.testing.assert_array_equal(solved[0].camera.world_from_cam, np.eye(4))
    for view, pose, before in zip(solved, world_from_cams(), maps, strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=1e-4)
        np.testing.assert_allclose(view.global_map.points, before.global_map.points, atol=1e-4)


def test_a_view_that_was_transposed_for_the_network_is_turned_back():
    views, maps = exact_views()
    fitted = views[1].fitted
    rows, columns = fitted.placement.size
    transposed = ImagePlacement(box=fitted.placement.box, size=(columns, rows), transposed=True)
    views[1] = dataclasses.replace(
        views[1], fitted=FittedImage(fitted.image.transpose(1, 0, 2), transposed)
    )
    maps[1] = _transposed(maps[1])
    view = solve_cameras(views, maps).views[1]
    np.testing.assert_allclose(view.camera.world_from_cam, world_from_cams()[1], atol=1e-5)
    np.testing.assert_allclose(view.camera.intrinsics[0, 0], CAMERAS[1][1], rtol=1e-4)
    np.testing.assert_array_equal(view.loaded.fitted.image, fitted.image)
    assert view.loaded.fitted.placement == fitted.placement


def test_a_third_of_wild_points_hardly_moves_a_pose():
    views, maps = exact_views()
    generator = np.random.default_rng(0)
    wild = generator.uniform(size=maps[1].global_map.confidence.shape) < 0.33
    points = maps[1].global_map.points.copy()
    points[wild] += generator.normal(scale=3.0, size=(int(wild.sum()), 3)).astype(np.float32)
    maps[1] = ViewMaps(with_points(maps[1].global_map, points), maps[1].local_map)
    camera = solve_cameras(views, maps).views[1].camera
    np.testing.assert_allclose(camera.world_from_cam, world_from_cams()[1], atol=0.01)


def test_pnp_and_the_closed_form_agree_on_exact_maps():
    pytest.importorskip("pycolmap")
    views, maps = exact_views()
    for poses in ("similarity", "pnp"):
        for view, pose in zip(
            solve_cameras(views, maps, poses=poses, compare=True).views,
            world_from_cams(),
            strict=True,
        ):
            degrees, distance = view.agreement
            assert degrees < 0.02 and distance < 1e-3
            np.testing.assert_allclose(view.camera.world_from_cam, pose, atol=2e-3)


def test_poses_by_pnp_without_pycolmap_name_the_extra(monkeypatch):
    monkeypatch.setattr(pnp, "pnp_available", lambda: False)
    views, maps = exact_views()
    with pytest.raises(ExtraMissingError, match="colmap") as raised:
        solve_cameras(views, maps, poses="pnp")
    assert "distill3r[colmap]" in raised.value.hint
    assert all(view.agreement is None for view in solve_cameras(views, maps, compare=True).views)


def test_a_view_without_finite_points_is_left_out_and_named():
    views, maps = exact_views()
    nothing = np.full_like(maps[1].global_map.points, np.nan)
    maps[1] = ViewMaps(
        with_points(maps[1].global_map, nothing), with_points(maps[1].local_map, nothing)
    )
    solved = solve_cameras(views, maps)
    assert [view.camera.name for view in solved.views] == ["view_000", "view_002"]
    assert [failure.item for failure in solved.failed] == ["view_001"]


def test_a_mirrored_map_has_no_focal_length_and_says_where_its_guess_is_from():
    views, maps = exact_views()
    mirror = np.array([-1.0, -1.0, 1.0], np.float32)
    for index in (0, 2):
        local = maps[index].local_map
        maps[index] = ViewMaps(maps[index].global_map, with_points(local, local.points * mirror))
    views[0] = dataclasses.replace(views[0], exif_focal=777.0)
    cameras = [view.camera for view in solve_cameras(views, maps).views]
    assert cameras[0].intrinsics[0, 0] == 777.0
    assert cameras[0].facts["focal_source"].startswith("exif")
    assert cameras[1].facts["focal_source"] == "points"
    assert cameras[2].facts["focal_source"].startswith("guessed")


def test_noise_of_the_global_maps_is_left_out_of_the_aligned_cloud():
    views, maps = exact_views()
    generator = np.random.default_rng(0)
    noisy = [
        ViewMaps(
            with_points(
                part.global_map,
                part.global_map.points
                + generator.normal(scale=0.05, size=part.global_map.points.shape),
            ),
            part.local_map,
        )
        for part in maps
    ]
    solved = solve_cameras(views, noisy).views
    truth = np.concatenate([part.global_map.points.reshape(-1, 3) for part in maps])
    clouds = {
        name: clean_cloud(Reconstruction(solved, cloud_from=name), Cleaning(conf=0.0)).cloud.points
        for name in ("global", "aligned")
    }
    error = {name: np.linalg.norm(points - truth, axis=1).mean() for name, points in clouds.items()}
    assert error["aligned"] < 0.2 * error["global"]


def test_the_cloud_is_of_carried_local_points_with_their_own_confidence_unless_asked_otherwise():
    views, maps = exact_views()
    maps = [
        ViewMaps(
            one.global_map,
            PointMap(one.local_map.points, one.global_map.confidence[::-1] + 7.0),
        )
        for one in maps
    ]
    scene = Reconstruction(solve_cameras(views, maps).views)
    everything = Cleaning(conf=0.0)
    local = clean_cloud(scene, everything)
    expected = np.concatenate([one.local_map.confidence.ravel() for one in maps])
    np.testing.assert_array_equal(local.confidence, expected)
    carried = np.concatenate([v.aligned.world_map.points.reshape(-1, 3) for v in scene.views])
    np.testing.assert_array_equal(local.cloud.points, carried)
    other = clean_cloud(dataclasses.replace(scene, cloud_from="global"), everything)
    expected = np.concatenate([one.global_map.confidence.ravel() for one in maps])
    np.testing.assert_array_equal(other.confidence, expected)
    # The percentage is of those that make the cloud.
    least = np.argsort(local.confidence, kind="stable")[: len(local.confidence) // 2]
    kept = clean_cloud(scene, Cleaning(conf=50.0))
    assert kept.confidence.min() >= local.confidence[least].max()


def _transposed(maps: ViewMaps) -> ViewMaps:
    """Both maps with rows and columns swapped."""
    return ViewMaps(
        *(
            PointMap(points.points.transpose(1, 0, 2), points.confidence.T)
            for points in (maps.global_map, maps.local_map)
        )
    )
